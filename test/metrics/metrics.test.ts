import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { openRefusalLog } from '../../src/boot/refusal-log.ts'
import { serveStage1 } from '../../src/boot/serve-stage1.ts'
import { eventKinds } from '../../src/domain/event.ts'
import { nodeTransitions } from '../../src/domain/state.ts'
import { PawlError } from '../../src/errors.ts'
import { openProcessMetrics, type ProcessMetrics } from '../../src/metrics/counts.ts'
import { formatFor, writeNodes } from '../../src/metrics/exposition.ts'
import { openMerge, type Said } from '../../src/metrics/merge.ts'
import { openMetricsPage, type PageOptions } from '../../src/metrics/page.ts'
import type { Snapshot } from '../../src/metrics/snapshot.ts'
import { type Metric, metricTables } from '../../src/metrics/table.ts'
import { storeDemoFleet, storeNode } from '../helpers/fleet.ts'
import { askHandover, askStage, askStage1, boot, machineOf, report } from '../helpers/machine.ts'
import { forEachDatabase, type OpenWorld, type World } from '../helpers/world.ts'

/** A world that counts. */
async function counting(t: Tap, openWorld: OpenWorld): Promise<{ world: World; own: ProcessMetrics }> {
  const world = await openWorld()
  const own = openProcessMetrics()
  t.teardown(() => own.close())
  const storage = own.timed(world.context.storage)
  const refusals = openRefusalLog({
    storage,
    clock: world.context.clock,
    hasRoom: async () => true,
    onError: (error) => t.fail(String(error)),
    onRecord: own.meter.refused,
  })
  t.teardown(() => refusals.flush()) // before the world closes its database
  const context = { ...world.context, storage, refusals, meter: own.meter }
  return { world: { ...world, context }, own }
}

type Tap = Pick<typeof t, 'teardown' | 'fail'>

/** What a scrape answers, with some parts otherwise. */
async function scrape(
  world: World,
  own: ProcessMetrics,
  more: Partial<PageOptions> & { accept?: string } = {},
): Promise<string> {
  const page = openMetricsPage({
    db: world.context.storage.db,
    clock: world.context.clock,
    own,
    maxNodes: 1000,
    facts: async () => ({
      build: { version: '1', node: '24', database: 'sqlite' },
      startedAt: new Date(0),
      leads: true,
      certificates: [],
      disk: undefined,
    }),
    ...more,
  })
  return (await page.answer(more.accept)).body
}

/** The value of a series; undefined where it is not there. */
function valueIn(text: string, series: string): number | undefined {
  const line = text.split('\n').find((one) => one.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length + 1))
}

const begins = Date.parse('2026-11-21T06:00:00Z') / 1000

t.test('a boot in numbers', async (t) => {
  await forEachDatabase(t, async (t, openWorld) => {
    await t.test('each stage counts once, with the time it took', async (t) => {
      const { world, own } = await counting(t, openWorld)
      const machine = machineOf(await storeDemoFleet(world))
      const stage1 = await askStage1(world, machine)
      world.clock.advance(40)
      const handover = await askHandover(world, machine, stage1.handoverToken)
      await boot(world, machine, 'stage1') // a power cycle: the session before is superseded
      await t.rejects(askHandover(world, machine, handover.stage2))
      world.clock.advance(60)
      const learnt = await boot(world, machine, 'stage2')
      world.clock.advance(25)
      const third = await askStage(world, machine, 'stage3', learnt.stage3)
      world.clock.advance(5)
      await askStage(world, machine, 'join', third.token)
      world.clock.advance(10)
      await report(world, machine, learnt.report, 'success')
      const text = await scrape(world, own)
      const expected = {
        pawl_sessions_started_total: 3,
        'pawl_sessions_ended_total{outcome="superseded"}': 2,
        'pawl_sessions_ended_total{outcome="ready"}': 1,
        'pawl_sessions_ended_total{outcome="failed"}': 0,
        'pawl_stage_duration_seconds_sum{stage="stage1"}': 0,
        'pawl_stage_duration_seconds_sum{stage="stage2"}': 25,
        'pawl_stage_duration_seconds_sum{stage="stage3"}': 5,
        'pawl_stage_duration_seconds_sum{stage="join"}': 10,
        'pawl_stage_duration_seconds_bucket{le="30",stage="stage2"}': 1,
        'pawl_stage_duration_seconds_bucket{le="20",stage="stage2"}': 0,
        pawl_boot_duration_seconds_sum: 40,
        pawl_boot_duration_seconds_count: 1,
        'pawl_tokens_issued_total{kind="handover"}': 3,
        'pawl_tokens_redeemed_total{kind="handover"}': 2,
        'pawl_tokens_redeemed_total{kind="stage2"}': 1,
        'pawl_tokens_redeemed_total{kind="report"}': 1,
        'pawl_refusals_total{cause="wrong-order"}': 1,
        'pawl_refusals_total{cause="spent-token"}': 0,
        'pawl_events_total{kind="session-opened"}': 3,
        'epoxy_stage1_total{machine="node1"}': 3,
        'epoxy_last_boot{machine="node1"}': begins + 100,
        'epoxy_last_success{machine="node1"}': begins + 140,
        'pawl_nodes{state="ready"}': 1,
        'pawl_sessions{state="stage2"}': 0,
        pawl_database_up: 1,
        pawl_nodes_without_series: 0,
      }
      for (const [series, value] of Object.entries(expected)) t.equal(valueIn(text, series), value, series)
      t.ok((valueIn(text, 'pawl_events') ?? 0) >= 8)
      t.ok((valueIn(text, 'pawl_database_transaction_duration_seconds_count{outcome="committed"}') ?? 0) >= 7)
      t.equal(valueIn(text, 'pawl_database_transaction_duration_seconds_count{outcome="rolled-back"}'), 1)
      t.equal(
        valueIn(text, 'pawl_database_errors_total{code="other"}'),
        0,
        'a refusal is no error of the database',
      )
    })

    await t.test('nodes that never came, or never succeeded, are there', async (t) => {
      const { world, own } = await counting(t, openWorld)
      const machine = machineOf(await storeDemoFleet(world))
      await storeNode(world, { name: 'node2' })
      await boot(world, machine, 'ready')
      world.clock.advance(100)
      await boot(world, machine, 'stage3')
      const text = await scrape(world, own)
      t.equal(valueIn(text, 'epoxy_last_boot{machine="node1"}'), begins + 100)
      t.equal(valueIn(text, 'epoxy_last_success{machine="node1"}'), begins, 'the success before this boot')
      for (const name of ['epoxy_stage1_total', 'epoxy_last_boot', 'epoxy_last_success'])
        t.equal(valueIn(text, `${name}{machine="node2"}`), 0, name)
      t.equal(valueIn(text, 'pawl_sessions{state="stage3"}'), 1)
      t.equal(valueIn(text, 'pawl_session_oldest_start_timestamp_seconds{state="stage3"}'), begins + 100)
      t.equal(valueIn(text, 'pawl_session_oldest_seen_timestamp_seconds{state="joining"}'), undefined)
    })

    await t.test('a session that began in another process has its durations', async (t) => {
      const { world, own } = await counting(t, openWorld)
      const machine = machineOf(await storeDemoFleet(world))
      const stage1 = await boot(world, machine, 'handover')
      world.clock.advance(33)
      const other = openProcessMetrics()
      t.teardown(() => other.close())
      other.timed(world.context.storage)
      const there = { ...world, context: { ...world.context, meter: other.meter } }
      const second = await askStage(there, machine, 'stage2', stage1.stage2)
      world.clock.advance(7)
      await askStage(there, machine, 'stage3', second.token)
      const text = await scrape(world, other)
      t.equal(valueIn(text, 'pawl_stage_duration_seconds_sum{stage="stage1"}'), 33)
      t.equal(valueIn(text, 'pawl_stage_duration_seconds_sum{stage="stage2"}'), 7)
      t.equal(
        valueIn(await scrape(world, own), 'pawl_stage_duration_seconds_count{stage="stage1"}'),
        undefined,
      )
    })

    await t.test('what rolls back counts nothing', async (t) => {
      const { world, own } = await counting(t, openWorld)
      await storeDemoFleet(world)
      await t.rejects(askStage1(world, machineOf('wrong')))
      const text = await scrape(world, own)
      t.equal(valueIn(text, 'pawl_tokens_issued_total{kind="handover"}'), 0)
      t.equal(valueIn(text, 'pawl_sessions_started_total'), 0)
      t.equal(valueIn(text, 'epoxy_stage1_total{machine="node1"}'), 0)
    })

    await t.test('more nodes than the setting allows have no series, and are told of', async (t) => {
      const { world, own } = await counting(t, openWorld)
      for (const name of ['a', 'b', 'c']) await storeNode(world, { name, profile: null })
      const two = await scrape(world, own, { maxNodes: 2 })
      t.match(two, /epoxy_last_boot\{machine="b"\} 0/)
      t.notMatch(two, /machine="c"/)
      t.equal(valueIn(two, 'pawl_nodes_without_series'), 1)
      const none = await scrape(world, own, { maxNodes: 0 })
      t.notMatch(none, /machine=|# HELP epoxy_last_boot/)
      t.equal(valueIn(none, 'pawl_nodes_without_series'), 3)
    })
  })
})

t.test('bounds', async (t) => {
  const hostile = ['"}\nevil 1', 'a'.repeat(100_000), '\u0000', 'ünïcode', '<script>']

  await t.test('whatever is said of a cause, a label has a value of its list', async (t) => {
    const own = openProcessMetrics()
    t.teardown(() => own.close())
    for (const cause of hostile) {
      own.meter.refused('refused', cause)
      own.meter.refused('handshake-failed', cause)
    }
    const { metrics } = await own.snapshot()
    const text = JSON.stringify(metrics)
    t.notMatch(text, /evil|script|aaaa/)
    const other = metrics.find(({ name }) => name === 'pawl_refusals_total')?.values
    t.equal(other?.find(({ labels }) => labels.cause === 'other')?.value, hostile.length)
  })

  await t.test('facts of a machine are in no metric', async (t) => {
    await forEachDatabase(t, async (t, openWorld) => {
      const { world, own } = await counting(t, openWorld)
      await storeDemoFleet(world)
      const fields = { serial: 'EVIL"} 1', manufacturer: hostile[0], asset: 'EVIL2' }
      for (const host of ['node1', 'no-such-node', 'EVIL3'])
        await serveStage1(world.context, {
          host,
          fields,
          source: '192.0.2.1',
          request: 'x',
          format: 'ipxe',
        }).catch(() => {})
      t.notMatch(await scrape(world, own), /evil|192\.0\.2|no-such-node/i)
    })
  })

  await t.test('a name that had to be escaped would be', async (t) => {
    const node = { name: 'a"b\\c\nd', stage1s: 1, lastBoot: 2, lastSuccess: 3 }
    t.match(writeNodes([node], 'text'), /^epoxy_last_boot\{machine="a\\"b\\\\c\\nd"\} 2$/m)
  })
})

t.test('a database that does not answer is told, and the scrape goes on', async (t) => {
  await forEachDatabase(t, async (t, openWorld) => {
    const { world, own } = await counting(t, openWorld)
    await storeDemoFleet(world)
    await world.context.storage.db.schema.alterTable('nodes').renameTo('gone').execute()
    const text = await scrape(world, own)
    await world.context.storage.db.schema.alterTable('gone').renameTo('nodes').execute()
    t.equal(valueIn(text, 'pawl_database_up'), 0)
    t.notMatch(text, /pawl_nodes\{|epoxy_last_boot/, 'numbers that are not known are not told as 0')
    t.equal(valueIn(text, 'pawl_leader'), 1)
    await t.rejects(
      world.context.storage.transaction(async () => {
        throw new PawlError('storage-unavailable', 'the disk is gone')
      }),
    )
    const after = await scrape(world, own)
    t.equal(valueIn(after, 'pawl_database_errors_total{code="storage-unavailable"}'), 1)
    t.equal(valueIn(after, 'pawl_database_up'), 1)
  })
})

t.test('however many scrape, the database is asked every five seconds', async (t) => {
  await forEachDatabase(t, async (t, openWorld) => {
    const { world, own } = await counting(t, openWorld)
    await storeNode(world, { name: 'a', profile: null })
    const page = openMetricsPage({
      db: world.context.storage.db,
      clock: world.context.clock,
      own,
      maxNodes: 10,
      facts: async () => ({
        build: { version: '1', node: '24', database: 'x' },
        startedAt: new Date(0),
        leads: false,
        certificates: [],
        disk: { freeBytes: 1, sizeBytes: 2 },
      }),
    })
    const nodes = async (): Promise<number | undefined> =>
      valueIn((await page.answer(undefined)).body, 'pawl_nodes{state="registered"}')
    t.equal(await nodes(), 1)
    await storeNode(world, { name: 'b', profile: null })
    world.clock.advance(4)
    t.equal(await nodes(), 1)
    world.clock.advance(1)
    t.same(await Promise.all([nodes(), nodes(), nodes()]), [2, 2, 2])
  })
})

t.test('several processes are one server', async (t) => {
  const counted = async (value: number): Promise<Snapshot> => {
    const own = openProcessMetrics()
    own.meter.sent('session', value)
    own.keep({ transfers: () => value })
    for (let n = 0; n < value; n++)
      own.meter.committed({ kind: 'booted-local', detail: {}, node: 'n', session: null, at: new Date(0) })
    const snapshot = await own.snapshot()
    await own.close()
    return JSON.parse(JSON.stringify(snapshot)) // as it comes over a channel
  }
  const countIn = (
    { metrics }: Snapshot,
    name: string,
    labels: Record<string, string> = {},
  ): number | undefined =>
    metrics
      .find((metric) => metric.name === name)
      ?.values.find((one) => Object.entries(labels).every(([key, value]) => one.labels[key] === value))?.value

  let order = 0
  const said = async (value: number): Promise<Said> => ({ order: ++order, snapshot: await counted(value) })

  await t.test('counters add up, gauges are of those that run', async (t) => {
    const merge = openMerge()
    merge.add('worker-1', await said(3))
    merge.add('worker-2', await said(4))
    const total = await merge.total(await counted(0))
    t.equal(total.processes, 3)
    t.equal(countIn(total, 'pawl_image_bytes_total', { way: 'session' }), 7)
    t.equal(countIn(total, 'pawl_transfers'), 7)
    t.same(total.machines, [['n', 7]])
  })

  await t.test('a worker that ended takes nothing back, also when it begins again', async (t) => {
    const merge = openMerge()
    merge.add('worker-1', await said(3))
    merge.ended('worker-1')
    merge.ended('worker-1')
    const without = await merge.total(await counted(1))
    t.equal(countIn(without, 'pawl_image_bytes_total', { way: 'session' }), 4)
    t.equal(countIn(without, 'pawl_transfers'), 1, 'what it had open is gone')
    merge.add('worker-1b', await said(2))
    merge.ended('worker-1b')
    merge.add('worker-1c', await said(5))
    const again = await merge.total(await counted(1))
    t.equal(countIn(again, 'pawl_image_bytes_total', { way: 'session' }), 11)
    t.same(again.machines, [['n', 11]])
    t.equal(again.processes, 2)
  })

  await t.test(
    'a word that two scrapes bring in another order, or behind its end, counts once',
    async (t) => {
      const merge = openMerge()
      const sent = async (): Promise<unknown> =>
        countIn(await merge.total(await counted(0)), 'pawl_image_bytes_total', { way: 'session' })
      const [first, second, third] = [await said(3), await said(4), await said(5)]
      merge.add('worker 1, restart 0', second)
      merge.add('worker 1, restart 0', first)
      t.equal(await sent(), 4, 'a counter never falls')
      merge.ended('worker 1, restart 0')
      merge.add('worker 1, restart 0', third)
      t.equal(await sent(), 5, 'what it said last is neither dropped nor added to what it had said')
      merge.add('worker 1, restart 1', await said(1))
      t.equal(await sent(), 6)
      merge.add('worker 1, restart 0', first)
      t.equal(await sent(), 6)
      for (let n = 1; n < 300; n++) {
        merge.ended(`worker 1, restart ${n}`)
        merge.add(`worker 1, restart ${n + 1}`, await said(1))
      }
      t.equal(await sent(), 305, 'and however often it ends, nothing is lost')
      merge.ended('worker 2, restart 0')
      merge.add('worker 2, restart 0', await said(2))
      t.equal(await sent(), 307, 'one that was never asked before it ended')
    },
  )

  await t.test('two that end at one time are both in the sums, at once', async (t) => {
    const merge = openMerge()
    merge.add('worker-1', await said(3))
    merge.add('worker-2', await said(4))
    const own = await counted(0)
    merge.ended('worker-1')
    merge.ended('worker-2')
    for (const when of ['at once', 'later'])
      t.equal(countIn(await merge.total(own), 'pawl_image_bytes_total', { way: 'session' }), 7, when)
  })

  await t.test('the page asks them, and notes who ended', async (t) => {
    await forEachDatabase(t, async (t, openWorld) => {
      const { world, own } = await counting(t, openWorld)
      await storeNode(world, { name: 'n', profile: null })
      let end: (process: string) => void = () => {}
      let running = [{ process: 'w1', ...(await said(3)) }]
      const others = {
        snapshots: async () => running,
        onEnd: (ended: (process: string) => void) => {
          end = ended
        },
      }
      const page = openMetricsPage({
        db: world.context.storage.db,
        clock: world.context.clock,
        own,
        others,
        maxNodes: 10,
        facts: async () => ({
          build: { version: '1', node: '24', database: 'x' },
          startedAt: new Date(0),
          leads: true,
          certificates: [],
          disk: undefined,
        }),
      })
      const first = (await page.answer(undefined)).body
      t.equal(valueIn(first, 'pawl_workers'), 2)
      t.equal(valueIn(first, 'epoxy_stage1_total{machine="n"}'), 3)
      running = []
      end('w1')
      await setTimeout(0)
      const second = (await page.answer(undefined)).body
      t.equal(valueIn(second, 'pawl_workers'), 1)
      t.equal(valueIn(second, 'epoxy_stage1_total{machine="n"}'), 3)
    })
  })
})

t.test('the format is the one that Accept asks for', async (t) => {
  const prometheus =
    'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1'
  const table: [string | undefined, string][] = [
    [undefined, 'text'],
    ['', 'text'],
    ['*/*', 'text'],
    ['text/html', 'text'],
    [prometheus, 'openmetrics'],
    ['application/openmetrics-text', 'openmetrics'],
    ['application/openmetrics-text;version=0.0.1', 'text'],
    ['application/openmetrics-text;q=0', 'text'],
    ['application/openmetrics-text;q=0.1,text/plain', 'text'],
    ['application/openmetrics-text;q=x', 'text'],
  ]
  for (const [accept, format] of table) t.equal(formatFor(accept), format, String(accept))
  await forEachDatabase(t, async (t, openWorld) => {
    const { world, own } = await counting(t, openWorld)
    await boot(world, machineOf(await storeDemoFleet(world)), 'ready')
    const text = await scrape(world, own, { accept: prometheus })
    t.match(text, /\n# EOF\n$/)
    t.equal(text.match(/# EOF/g)?.length, 1)
    t.notMatch(text, /\n\n/, 'no empty line')
    t.match(text, /^# TYPE epoxy_stage1 counter$/m)
    t.match(text, /^epoxy_stage1_total\{machine="node1"\} 1$/m)
    t.match(text, /^# TYPE pawl_tokens_issued counter$/m)
    t.match(text, /^pawl_tokens_issued_total\{kind="join"\} 1$/m)
    t.notMatch(text, /_total_total/)
  })
})

t.test('the table of metrics', async (t) => {
  const all = Object.values(metricTables).flatMap((table): [string, Metric][] => Object.entries(table))
  t.equal(new Set(all.map(([name]) => name)).size, all.length, 'each name once')
  for (const [name, { type, help, buckets }] of all) {
    t.match(name, /^(pawl|epoxy|process|nodejs)_[a-z0-9_]+$/, name)
    t.equal(name.endsWith('_total'), type === 'counter', `${name}: counters end in _total, others do not`)
    t.match(help, /\.$/, name)
    t.equal(buckets !== undefined, type === 'histogram', name)
  }
  t.ok(Object.keys(nodeTransitions).length < 10 && Object.keys(eventKinds).length < 200, 'lists stay short')
})
