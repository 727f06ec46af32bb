import t, { type Test } from 'tap'
import { expireSessions } from '../../src/boot/expire-sessions.ts'
import { traceIdOf } from '../../src/domain/trace.ts'
import { removeNode } from '../../src/fleet/nodes.ts'
import { timelineOf } from '../../src/fleet/timeline.ts'
import { openTraces, type TraceConfig } from '../../src/open-traces.ts'
import { insertSpans } from '../../src/storage/spans.ts'
import type { TraceExporter } from '../../src/traces/exporter.ts'
import { storeDemoFleet, storeNode } from '../helpers/fleet.ts'
import { askStage1, boot, facts, machineOf, report } from '../helpers/machine.ts'
import { ann, errorOf } from '../helpers/operators.ts'
import { forEachDatabase, type OpenWorld, type World, type WorldOptions } from '../helpers/world.ts'
import { type Collector, type SeenSpan, startCollector } from './collector.ts'

/** What was logged: level and words. */
type Said = [string, string, Readonly<Record<string, unknown>>][]

async function exporterOf(
  world: World,
  { url }: Pick<Collector, 'url'>,
  wish: Partial<TraceConfig> = {},
): Promise<{ exporter: TraceExporter; said: Said; exportAll: () => Promise<void> }> {
  const said: Said = []
  const logAs = (level: string) => (about: object, words: string) =>
    void said.push([level, words, { ...about }])
  const exporter = await openTraces(world.context, {
    most: 200,
    config: {
      otlpEndpoint: `${url}/v1/traces`,
      otlpHeadersFile: undefined,
      otlpCaFile: undefined,
      otlpTimeoutSeconds: 10,
      otlpResourceAttributes: [],
      ...wish,
    },
    hostName: 'boot-server',
    log: { info: logAs('info'), warn: logAs('warn') } as never,
  })
  if (exporter === undefined) throw new Error('traces are off')
  await exporter.work() // what ends from now on
  const exportAll = async (): Promise<void> => {
    world.clock.advance(6)
    await exporter.work()
  }
  return { exporter, said, exportAll }
}

const rootOf = (spans: readonly SeenSpan[] = []): SeenSpan => {
  const root = spans.find(({ parent }) => parent === null)
  if (root === undefined) throw new Error('there is no root')
  return root
}

await forEachDatabase(t, async (t, openWorld: OpenWorld) => {
  async function open(t: Test, wish: WorldOptions = {}) {
    const world = await openWorld({ settings: { traces: true }, ...wish })
    const secret = await storeDemoFleet(world)
    const collector = await startCollector(t)
    return { world, machine: machineOf(secret), collector, ...(await exporterOf(world, collector)) }
  }

  await t.test('a boot is one trace: its stages within it, and what took time within them', async (t) => {
    const { world, machine, collector, exporter, exportAll } = await open(t)
    const learnt = await boot(world, machine, 'stage2')
    world.clock.advance(40)
    await errorOf(askStage1(world, machineOf('wrong')))
    await world.context.refusals.flush()
    await report(world, machine, learnt.report, 'error: the disk is slow')
    const at = (seconds: number): string =>
      new Date(Date.parse('2026-11-21T06:00:00Z') + seconds * 1000).toISOString()
    const span = {
      session: learnt.session,
      agent: null,
      tls: null,
      told: 1,
      times: 1,
      stage: 'stage2',
    } as const
    await world.context.storage.transaction((tx) =>
      insertSpans(tx, [
        { ...span, kind: 'downloaded', at: at(2), seconds: 30, bytes: 4096, detail: 'filesystem' },
        { ...span, kind: 'kexec', at: at(36), seconds: 9999, bytes: null, detail: null },
      ]),
    )
    const rest = await boot(world, machine, 'ready')
    t.equal(exporter.counts().exported, 0, 'nothing yet')
    await exportAll()
    t.same(collector.faults, [])
    t.same([...collector.traces().keys()], [traceIdOf(learnt.session), traceIdOf(rest.session)])
    const [first = [], second = []] = collector.traces().values()
    t.same(
      second.map(({ name }) => name),
      ['boot', 'stage1', 'stage2', 'stage3', 'join', 'report'],
    )
    t.match(rootOf(second), {
      code: 1,
      attributes: {
        'client.address': '192.0.2.10',
        'pawl.session': rest.session,
        'pawl.node': 'node1',
        'pawl.profile': 'demo',
        'pawl.sequence': 'boot',
        'pawl.state': 'ready',
        'pawl.stage': 'report',
        'pawl.local': false,
        'pawl.evidence': ['secret'],
        'pawl.image.stage2': 'small@1',
        'pawl.image.stage3': 'full@1',
      },
      resource: { 'service.name': 'pawl', 'service.version': /^\d/, 'host.name': 'boot-server' },
    })
    const opened = second.flatMap(({ events }) => events).find(({ name }) => name === 'session-opened')
    t.match(opened?.attributes, { 'pawl.actor': 'node', 'pawl.event': /^node\/node1#\d+$/ })
    const stage2 = first.find(({ name }) => name === 'stage2')
    t.same([stage2?.start, stage2?.end], [Date.parse(at(0)), Date.parse(at(40))])
    t.match(
      stage2?.events.map(({ name, attributes }) => [name, attributes['pawl.cause'] ?? null]).slice(-3),
      [['refused', 'wrong-secret'], ['attempt-failed'], ['session-superseded', 'a later stage 1']],
    )
    const parts = first.filter(({ parent }) => parent === stage2?.id)
    t.same(
      parts.map(({ name, start, end, attributes }) => [name, start, end, attributes['pawl.bytes'] ?? null]),
      [
        ['downloaded', Date.parse(at(2)), Date.parse(at(32)), 4096],
        ['kexec', Date.parse(at(36)), Date.parse(at(40)), null],
      ],
      'a node whose clock is wrong does not break out of its stage',
    )
    t.equal(parts[0]?.attributes['pawl.measured_by'], 'node')
    t.equal((await timelineOf(world.context, 'node1', rest.session)).session?.traceId, rootOf(second).trace)
    t.same(exporter.counts(), { exported: 2, dropped: 0, waiting: 0 })
    await exportAll()
    t.equal(collector.requests.length, 1, 'once')
  })

  await t.test('a boot that does not come to its report: an error with its cause', async (t) => {
    const { world, machine, collector, exportAll } = await open(t)
    const failed = await boot(world, machine, 'stage2')
    await report(world, machine, failed.report, 'error: no disk', { final: true })
    world.clock.advance(60)
    const expired = await boot(world, machine, 'stage3')
    world.clock.advance(7201)
    await expireSessions(world.context)
    const replaced = await boot(world, machine, 'handover')
    world.clock.advance(300)
    const repeated = await askStage1(world, machine)
    world.clock.advance(1)
    await boot(world, machine)
    await exportAll()
    t.same(collector.faults, [])
    const seen = (session = ''): unknown[] => {
      const { code, message, attributes, name } = rootOf(collector.traces().get(traceIdOf(session)))
      return [name, code, message ?? null, attributes['error.type'] ?? null]
    }
    t.same(seen(failed.session), ['boot', 2, 'failed: error: no disk', 'failed'])
    t.same(seen(expired.session), ['boot', 2, 'expired: no sign of life after stage3', 'expired'])
    t.same(seen(replaced.session), ['boot', 2, 'superseded: a later stage 1', 'superseded'])
    t.same(
      seen(repeated.session).slice(0, 3),
      ['boot', 0, null],
      'a lost answer that was asked for again is no fault',
    )
    const stage3 = collector
      .traces()
      .get(traceIdOf(expired.session))
      ?.find(({ name }) => name === 'stage3')
    t.same([stage3?.code, (stage3?.end ?? 0) - (stage3?.start ?? 0)], [2, 7_201_000])
  })

  await t.test(
    'what machines say is one short line of printable characters, and no secret is in it',
    async (t) => {
      const { world, machine, collector, exportAll } = await open(t)
      const nasty = `\u001b[31m<script>\u0000\u202e\ud800 ${'x'.repeat(5000)}😀`
      const learnt = await boot(world, machine, 'stage2')
      await report(world, machine, learnt.report, `error: ${nasty}`, { final: true })
      await exportAll()
      t.same(collector.faults, [])
      const [spans = []] = collector.traces().values()
      const texts = spans.flatMap(({ name, message = '', attributes, events }) => [
        ...[name, message, ...Object.values(attributes)],
        ...events.flatMap((event) => Object.values(event.attributes)),
      ])
      t.ok(texts.some((text) => String(text).includes('<script>')))
      for (const text of texts.filter((text) => typeof text === 'string')) {
        t.notMatch(text, /[\p{Cc}\p{Cf}\p{Cs}]/u)
        t.ok([...text].length <= 256)
      }
      const bytes = collector.requests.map(({ body }) => body.toString('latin1')).join()
      for (const secret of [
        machine.fields.secret,
        learnt.stage2,
        learnt.report,
        learnt.handoverToken,
        learnt.capability,
      ])
        t.notMatch(bytes, String(secret).slice(12))
    },
  )

  await t.test('while the collector is away boots wait in the log; it is told once', async (t) => {
    const { world, machine, collector, exporter, said, exportAll } = await open(t)
    await collector.shut()
    const first = await boot(world, machine)
    await exportAll()
    t.same(exporter.counts(), { exported: 0, dropped: 0, waiting: 1 })
    for (let n = 0; n < 5; n += 1) {
      world.clock.advance(400)
      await exporter.work()
    }
    const second = await boot(world, machine)
    t.same(
      said.map(([level, words]) => [level, words.slice(0, 40)]),
      [['warn', 'the collector of traces takes none: boot']],
    )
    t.match(said[0]?.[2], { reason: 'nothing listens there' })
    await collector.open()
    await exporter.work()
    t.equal(collector.requests.length, 0, 'not before its time')
    world.clock.advance(400)
    await exporter.work()
    t.same([...collector.traces().keys()].sort(), [first.session, second.session].map(traceIdOf).sort())
    t.same(exporter.counts(), { exported: 2, dropped: 0, waiting: 0 })
    t.match(said[1], ['info', 'the collector of traces takes them again', { tries: 6 }])
    t.equal(said.length, 2)
    t.same(collector.faults, [])
  })

  await t.test(
    'what waited for a day is given up and counted, and so is a boot of a node that is gone',
    async (t) => {
      const { world, machine, collector, exporter, said, exportAll } = await open(t)
      await boot(world, machine)
      world.clock.advance(86_401)
      const last = await boot(world, machine)
      await exportAll()
      t.same([...collector.traces().keys()], [traceIdOf(last.session)])
      t.same(exporter.counts(), { exported: 1, dropped: 1, waiting: 0 })
      t.match(said, [['warn', /^traces are given up/]])
      const secret = await storeNode(world, { name: 'node2' })
      await boot(world, {
        ...machineOf(secret),
        host: 'node2',
        fields: { uuid: facts.uuid.replace('1', '2'), secret },
      })
      await removeNode(world.context, ann, 'node2')
      await exportAll()
      t.same(exporter.counts(), { exported: 1, dropped: 2, waiting: 0 })
      await exportAll()
      t.same(exporter.counts(), { exported: 1, dropped: 2, waiting: 0 }, 'once')
    },
  )

  await t.test(
    'a thousand boots that end at once: few requests, each of a bounded size, each boot once',
    async (t) => {
      const { world, machine, collector, exporter } = await open(t, { verify: false })
      const { session } = await boot(world, machine)
      await cloneBoot(world, session, 999)
      world.clock.advance(6)
      await exporter.work()
      t.same(exporter.counts(), { exported: 1000, dropped: 0, waiting: 0 })
      t.equal(collector.traces().size, 1000)
      t.equal(collector.requests.flatMap(({ spans }) => spans).length, 6000, 'each span once')
      t.equal(collector.requests.length, 10)
      for (const { body } of collector.requests) t.ok(body.length < 2_500_000, String(body.length))
      t.same(collector.faults, [])
      collector.answer = (response) => void response.writeHead(503).end()
      await cloneBoot(world, session, 250, 'more')
      world.clock.advance(6)
      await exporter.work()
      t.same(exporter.counts(), { exported: 1000, dropped: 50, waiting: 200 }, 'no more than that many wait')
    },
  )

  await t.test(
    'of two that export at once each boot is counted once, and what comes twice is the same twice',
    async (t) => {
      const { world, machine, collector, exporter } = await open(t)
      const other = await exporterOf(world, collector)
      for (let n = 0; n < 3; n += 1) {
        await boot(world, machine)
        world.clock.advance(60)
      }
      await Promise.all([exporter.work(), other.exporter.work()])
      t.equal(exporter.counts().exported + other.exporter.counts().exported, 3)
      t.equal(collector.traces().size, 3)
      const bodies = new Set(collector.requests.map(({ body }) => body.toString('hex')))
      t.equal(bodies.size, 1)
      t.same([collector.faults, other.said], [[], []])
    },
  )

  await t.test(
    'turned on, nothing of the past is exported; turned off and on, what ended meanwhile is',
    async (t) => {
      const world = await openWorld()
      const machine = machineOf(await storeDemoFleet(world))
      const before = await boot(world, machine)
      t.equal(
        (await timelineOf(world.context, 'node1')).session?.traceId,
        null,
        'there is no trace to look for',
      )
      world.clock.advance(60)
      const collector = await startCollector(t)
      const first = await exporterOf(world, collector)
      await first.exporter.close()
      const meanwhile = await boot(world, machine)
      const second = await exporterOf(world, collector)
      await second.exportAll()
      t.same([...collector.traces().keys()], [traceIdOf(meanwhile.session)])
      t.notOk(collector.traces().has(traceIdOf(before.session)))
    },
  )
})

/** Copies a node and its boot, under other names, with the event of its end. */
async function cloneBoot({ context }: World, session: string, count: number, prefix = 'copy'): Promise<void> {
  const { db } = context.storage
  const row = await db.selectFrom('sessions').selectAll().where('id', '=', session).executeTakeFirstOrThrow()
  const node = await db.selectFrom('nodes').selectAll().where('id', '=', row.node).executeTakeFirstOrThrow()
  const stages = await db.selectFrom('session_stages').selectAll().where('session', '=', session).execute()
  const [end] = await db
    .selectFrom('events')
    .selectAll()
    .where('session', '=', session)
    .where('kind', '=', 'session-ready')
    .execute()
  const { id: _, ...event } = end as NonNullable<typeof end>
  await context.storage.transaction(async (tx) => {
    for (let at = 0; at < count; at += 50) {
      const names = Array.from({ length: Math.min(50, count - at) }, (_, n) => `${prefix}${at + n}`)
      const bare = { ...node, uuid: null, serial: null, secret_id: null, secret_hash: null }
      await tx
        .insertInto('nodes')
        .values(names.map((name) => ({ ...bare, id: name, name, session: name })))
        .execute()
      await tx
        .insertInto('sessions')
        .values(names.map((name) => ({ ...row, id: name, node: name })))
        .execute()
      await tx
        .insertInto('session_stages')
        .values(names.flatMap((name) => stages.map((stage) => ({ ...stage, session: name }))))
        .execute()
      await tx
        .insertInto('events')
        .values(names.map((name) => ({ ...event, chain: `node/${name}`, node: name, session: name })))
        .execute()
    }
  })
}
