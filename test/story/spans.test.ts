import t from 'tap'
import { maxSpansOfKind, openSpanLog, type SpanLog, type SpanLogOptions } from '../../src/boot/span-log.ts'
import type { BootStory } from '../../src/boot/story.ts'
import { runTransfer } from '../../src/boot/transfer.ts'
import { type Arrival, parseToldSpans } from '../../src/domain/span.ts'
import type { StageName } from '../../src/domain/stage.ts'
import { removeNode } from '../../src/fleet/nodes.ts'
import { openStory } from '../../src/fleet/open-story.ts'
import { timelineOf } from '../../src/fleet/timeline.ts'
import { spansByStage } from '../../src/fleet/timeline-spans.ts'
import type { Storage } from '../../src/storage/database.ts'
import { findSession, listStages } from '../../src/storage/sessions.ts'
import { countSpans, listSpans } from '../../src/storage/spans.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { facts } from '../helpers/machine.ts'
import { forEachDatabase, type OpenWorld, type World } from '../helpers/world.ts'

const tls = { version: 'TLSv1.2', cipher: 'ECDHE-RSA-AES128-GCM-SHA256', resumed: false }
const ipxe: Arrival = { agent: 'iPXE/1.21.1', tls, queuedSeconds: 0 }
const curl: Arrival = {
  agent: 'curl/8.5.0',
  tls: { version: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384', resumed: true },
  queuedSeconds: 0,
}

/** A fleet of one node whose boots go through the whole story, as a listener asks it. */
async function openFleet(openWorld: OpenWorld): Promise<{ world: World; story: BootStory; secret: string }> {
  const world = await openWorld()
  const secret = await storeDemoFleet(world)
  return { world, story: openStory(world.context), secret }
}

const asking = (request: string, arrival: Arrival, source = '192.0.2.10') => ({
  host: 'node1',
  source,
  request,
  arrival,
})

async function askStage1(story: BootStory, secret: string, arrival = ipxe) {
  const answer = await story.stage1({
    ...asking('stage1.ipxe', arrival),
    fields: { ...facts, secret },
    format: 'ipxe',
  })
  return JSON.parse((answer?.body ?? '').trim().split(' ').slice(1).join(' ')) as Record<string, string>
}

/** Up to the tokens of stage 2 and of reports. */
async function begin(
  story: BootStory,
  secret: string,
): Promise<{ stage2: string; report: string; capability: string }> {
  const { handoverToken, capability = '' } = await askStage1(story, secret)
  const { tokens } = JSON.parse(await story.handover({ ...asking('handover', ipxe), token: handoverToken }))
  return { ...tokens, capability }
}

/** A log of its own for a session that has begun, with turns that come when they are called. */
async function openLog(
  world: World,
  hasRoom: SpanLogOptions['hasRoom'],
  storage: Storage = world.context.storage,
) {
  const { session = null } = await timelineOf(world.context, 'node1')
  const id = session?.id ?? ''
  const turns: (() => void)[] = []
  const log: SpanLog = openSpanLog({
    ...{ storage, hasRoom, later: (work) => turns.push(work) },
    onError: (error) => {
      throw error
    },
  })
  return {
    log,
    turns,
    id,
    note: (detail: string) =>
      log.note({ session: id, kind: 'asked', at: world.clock.now(), seconds: 0, detail }),
    written: async () => (await listSpans(storage.db, id)).slice(2).map(({ detail }) => detail),
  }
}

const kinds = (spans: readonly { kind: string; detail?: string }[]): string[] =>
  spans.map(({ kind, detail }) => (detail === undefined ? kind : `${kind} ${detail}`))

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('a refused request is in its place, with who asked', async (t) => {
    const { world, story, secret } = await openFleet(openWorld)
    const { stage2 } = await begin(story, secret)
    const key = 'k'.repeat(22)
    await story.redeem({ ...asking('stage2', curl), stage: 'stage2', token: stage2, key })
    world.clock.advance(5)
    await t.rejects(
      story.redeem({ ...asking('stage2', curl), stage: 'stage2', token: stage2, key: 'x'.repeat(22) }),
      { code: 'refused' },
    )
    await t.rejects(
      story.stage1({ ...asking('stage1.ipxe', ipxe), fields: { ...facts, secret: 'wrong' }, format: 'ipxe' }),
      {
        code: 'refused',
      },
    )
    await world.context.refusals.flush()
    const { stages } = await timelineOf(world.context, 'node1')
    t.same(kinds(stages[1]?.spans ?? []), [
      'asked stage2',
      'refused stage2: the token was used before under another Idempotency-Key',
      'refused stage1.ipxe: wrong-secret, from 192.0.2.10',
    ])
  })

  await t.test('a repeated answer is no second asking, and its agent is heard once', async (t) => {
    const { world, story, secret } = await openFleet(openWorld)
    const { stage2 } = await begin(story, secret)
    const told = parseToldSpans('verified 1795240801 0.5 1001 kernel')
    const ask = {
      ...asking('stage2', curl),
      stage: 'stage2' as const,
      token: stage2,
      key: 'k'.repeat(22),
      told,
    }
    t.equal(await story.redeem(ask), await story.redeem(ask))
    const { stages } = await timelineOf(world.context, 'node1')
    t.same(kinds(stages.flatMap(({ spans }) => spans)), [
      'asked stage1.ipxe',
      'asked handover',
      'verified kernel',
      'asked stage2',
      'repeated stage2',
    ])
  })

  await t.test('spans of each kind are bounded, and counted beyond it', async (t) => {
    const { world, story, secret } = await openFleet(openWorld)
    const { report } = await begin(story, secret)
    for (let at = 0; at < maxSpansOfKind + 15; at += 1) {
      world.clock.advance(1)
      await story.report({
        ...asking('report', curl),
        token: report,
        key: undefined,
        message: `error: ${'x '.repeat(1000)}`,
        final: false,
      })
      if (at === maxSpansOfKind + 4) await world.context.spans?.flush()
    }
    const { stages } = await timelineOf(world.context, 'node1')
    const reported = stages.flatMap(({ spans }) => spans).filter(({ kind }) => kind === 'reported')
    t.equal(reported.length, maxSpansOfKind)
    t.equal(reported.at(-1)?.times, 16)
    t.ok(reported.every(({ detail = '' }) => detail.length <= 300))
  })

  await t.test(
    'a span of a session that was removed meanwhile is left out, and no other with it',
    async (t) => {
      const { world, story, secret } = await openFleet(openWorld)
      await begin(story, secret)
      await removeNode(world.context, { actor: 'operator:test', source: null, role: 'operator' }, 'node1')
      world.context.spans?.note({ session: 'nobody', kind: 'asked', at: world.clock.now(), seconds: 0 })
      await world.context.spans?.flush()
      t.equal(world.context.spans?.dropped(), 0)
      t.same(await world.context.storage.db.selectFrom('session_spans').selectAll().execute(), [])
    },
  )

  await t.test('a write that takes longer than a turn is not the last one', async (t) => {
    const { world, story, secret } = await openFleet(openWorld)
    await begin(story, secret)
    const gate = Promise.withResolvers<boolean>()
    const { log, turns, note, written } = await openLog(world, () => gate.promise)
    note('first')
    turns.shift()?.()
    note('meanwhile')
    turns.shift()?.()
    const both = log.flush()
    gate.resolve(true)
    await both
    t.same(await written(), ['first', 'meanwhile'])
    note('behind it')
    t.equal(turns.length, 1, 'it has a turn again')
    turns.shift()?.()
    await log.flush()
    t.same(await written(), ['first', 'meanwhile', 'behind it'])
  })

  await t.test('who reads a timeline does not wait for boots that go on meanwhile', async (t) => {
    const { world, story, secret } = await openFleet(openWorld)
    await begin(story, secret)
    let more = 5
    const { log, note, written } = await openLog(world, async () => {
      more -= 1
      if (more >= 0) note('more')
      return true
    })
    note('one')
    await log.flush()
    t.same(await written(), ['one'])
  })

  await t.test('no span is written while the disk is nearly full', async (t) => {
    const world = await openWorld({ hasRoom: async () => false })
    world.context.spans?.note({ session: 'x', kind: 'asked', at: world.clock.now(), seconds: 0 })
    await world.context.spans?.flush()
    t.equal(world.context.spans?.dropped(), 1)
  })

  await t.test(
    'a whole boot: who asked what, how long it waited, what was sent, what the node says',
    async (t) => {
      const { world, story, secret } = await openFleet(openWorld)
      const { stage2, report, capability } = await begin(story, secret)
      const download = await story.openDownload({ ...asking('artifacts', ipxe), role: 'kernel', capability })
      await runTransfer(story, download, {
        arrival: ipxe,
        part: { start: 1, end: 1001 },
        send: async () => {
          world.clock.advance(2)
          return 500
        },
        cut: () => {},
        onError: (error) => t.fail(String(error)),
      })
      const waiting = { ...curl, queuedSeconds: 1.5 }
      const second = JSON.parse(
        await story.redeem({ ...asking('stage2', waiting), stage: 'stage2', token: stage2, key: undefined }),
      )
      world.clock.advance(10)
      const told = parseToldSpans(
        'verified 1795240807 0.25 14680064 kernel\nkexec 9999999999 1.75 - kernel started',
      )
      const third = JSON.parse(
        await story.redeem({
          ...asking('stage3', curl),
          stage: 'stage3',
          token: second.handover.tokens.stage3,
          key: undefined,
          told,
        }),
      )
      await story.redeem({ ...asking('join', curl), stage: 'join', token: third.tokens.join, key: undefined })
      world.clock.advance(3)
      await story.report({
        ...asking('report', curl),
        token: report,
        key: undefined,
        message: 'success',
        final: false,
      })
      const { session, stages } = await timelineOf(world.context, 'node1')
      t.same(session?.client, { agent: 'iPXE/1.21.1', tls })
      t.same(
        stages.map(({ stage, client }) => [stage, client?.agent]),
        [
          ['stage1', 'iPXE/1.21.1'],
          ['stage2', 'curl/8.5.0'],
          ['stage3', 'curl/8.5.0'],
          ['join', 'curl/8.5.0'],
          ['report', 'curl/8.5.0'],
        ],
      )
      t.same(stages[0]?.spans, [
        { kind: 'asked', at: '2026-11-21T06:00:00.000Z', seconds: 0, detail: 'stage1.ipxe', by: 'server' },
        { kind: 'asked', at: '2026-11-21T06:00:00.000Z', seconds: 0, detail: 'handover', by: 'server' },
        {
          kind: 'downloaded',
          at: '2026-11-21T06:00:00.000Z',
          seconds: 2,
          bytes: 500,
          bytesPerSecond: 250,
          detail: 'kernel, from 1 on, cut at 501 of 1001',
          by: 'server',
        },
      ])
      t.same(stages[1]?.spans, [
        { kind: 'queued', at: '2026-11-21T06:00:00.500Z', seconds: 1.5, detail: 'stage2', by: 'server' },
        { kind: 'asked', at: '2026-11-21T06:00:02.000Z', seconds: 0, detail: 'stage2', by: 'server' },
        {
          kind: 'verified',
          at: '2026-11-21T06:00:07.000Z',
          seconds: 0.25,
          bytes: 14680064,
          bytesPerSecond: 58720256,
          detail: 'kernel',
          by: 'node',
        },
        {
          kind: 'kexec',
          at: '2026-11-21T06:00:12.000Z',
          seconds: 1.75,
          detail: 'kernel started',
          by: 'node',
        },
      ])
      t.same(kinds(stages[2]?.spans ?? []), ['asked stage3'])
      t.same(kinds(stages[4]?.spans ?? []), ['reported success'])
    },
  )

  await t.test(
    'what is sent counts once and keeps its session awake: on a full disk, and when a batch is run again',
    async (t) => {
      const { world, story, secret } = await openFleet(openWorld)
      await begin(story, secret)
      const { storage } = world.context
      let lost = 0
      const losing: Storage = {
        ...storage,
        async transaction(work) {
          const undone = storage.transaction(async (tx) => {
            await work(tx)
            throw new Error('rolled back')
          })
          await undone.catch(() => {
            lost += 1
          })
          return storage.transaction(work)
        },
      }
      let hasRoom = true
      const { log, id } = await openLog(world, async () => hasRoom, losing)
      const send = (stage: StageName, bytes: number): void => {
        const at = world.clock.now()
        log.note({ session: id, stage, kind: 'downloaded', at, seconds: 0, bytes, sentBy: at })
      }
      const counted = async () => {
        const stages = await listStages(storage.db, id)
        const row = await findSession(storage.db, id)
        return [Number(stages[0]?.bytes), row?.last_seen_at]
      }
      send('stage1', 40)
      world.clock.advance(7)
      send('stage1', 2)
      send('stage3', 1) // not open: nothing to count it for
      await log.flush()
      t.same(await counted(), [42, '2026-11-21T06:00:07.000Z'])
      t.equal(lost, 1)
      t.same((await countSpans(storage.db, [id])).find(({ kind }) => kind === 'downloaded')?.count, 3)

      hasRoom = false
      world.clock.advance(60)
      send('stage1', 8)
      await log.flush()
      t.same(await counted(), [50, '2026-11-21T06:01:07.000Z'])
      t.equal(log.dropped(), 1, 'its span is not kept')

      hasRoom = true
      for (let n = 3; n < maxSpansOfKind; n++) send('stage1', 0)
      await log.flush()
      send('stage1', 0)
      await log.flush()
      const rows = (await listSpans(storage.db, id)).filter(({ kind }) => kind === 'downloaded')
      t.equal(rows.length, maxSpansOfKind, 'a batch that is run again counts no span twice')
    },
  )
})

await t.test('what an agent tells is parsed line by line, and what is no span is left out', async (t) => {
  t.same(parseToldSpans('verified 1795240801 0.5 1001 kernel\njoined 1795240802 12 - script'), [
    { kind: 'verified', at: '2026-11-21T06:00:01.000Z', seconds: 0.5, bytes: 1001, detail: 'kernel' },
    { kind: 'joined', at: '2026-11-21T06:00:02.000Z', seconds: 12, bytes: null, detail: 'script' },
  ])
  for (const text of [
    '',
    'asked 1795240801 0.5 - made up',
    'verified now 0.5 1001 kernel',
    'verified 1795240801 -1 1001 kernel',
    'verified 1795240801 1e9 1001 kernel',
    'verified 1795240801 0.5 1001 \u001b[31mred',
    'verified 1795240801 0.5 1001 <ké>',
    `verified 1795240801 0.5 1001 ${'x'.repeat(201)}`,
    'x'.repeat(2 ** 20),
  ])
    t.same(parseToldSpans(text), [], JSON.stringify(text.slice(0, 60)))
  t.equal(parseToldSpans('joined 1 1 - x\n'.repeat(1000)).length, 32)
})

await t.test(
  'what the join took stands with the join, though the clock that tells it has whole seconds',
  (t) => {
    const stages = [
      { stage: 'stage3', at: '2026-11-21T06:00:02.100Z' },
      { stage: 'join', at: '2026-11-21T06:00:02.400Z' },
    ] as const
    const [joined] = parseToldSpans('joined 1795240802 12 - the join script')
    const row = {
      ...{ session: 's', stage: null, seconds: 12, bytes: null, agent: null, tls: null, times: 1 },
      ...{ kind: 'joined' as const, at: joined?.at ?? '', detail: joined?.detail ?? null, told: 1 },
    }
    const placed = (of: readonly { readonly stage: StageName; readonly at: string }[]) =>
      [...spansByStage(of, [row], [])].map(([stage, { spans }]) => [stage, kinds(spans)])
    t.same(placed(stages), [
      ['stage3', []],
      ['join', ['joined the join script']],
    ])
    t.same(placed(stages.slice(0, 1)), [['stage3', ['joined the join script']]], 'where no join was opened')
    t.end()
  },
)
