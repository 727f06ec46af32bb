import { fork } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { serveStage1 } from '../../src/boot/serve-stage1.ts'
import type { By } from '../../src/fleet/change.ts'
import { overviewOf } from '../../src/fleet/node-overview.ts'
import { pageOfNodes, showNode } from '../../src/fleet/node-view.ts'
import { armNode, disableNode, enableNode } from '../../src/fleet/nodes.ts'
import { tendPaces } from '../../src/fleet/paces.ts'
import { reinstall } from '../../src/fleet/reinstall.ts'
import { showStatus } from '../../src/fleet/status.ts'
import { timelineOf } from '../../src/fleet/timeline.ts'
import { learnUsualTimes } from '../../src/fleet/usual-times.ts'
import { addProgress } from '../../src/storage/sessions.ts'
import { listUsualTimes } from '../../src/storage/usual-times.ts'
import { demoProfile, nodeRow, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import {
  askHandover,
  askStage,
  askStage1,
  boot,
  facts,
  type Machine,
  machineOf,
  report,
} from '../helpers/machine.ts'
import { forEachDatabase, openAt, type World } from '../helpers/world.ts'

const ann: By = { actor: 'operator:ann', source: '192.0.2.1', role: 'operator' }
const loops = (retryAfterSeconds: number): { code: string; retryAfterSeconds: number } => ({
  code: 'too-many-boots',
  retryAfterSeconds,
})

const otherUuid = '99999999-2222-3333-4444-555555555555'

/** A process of a server, but for when it began and what it has to do. */
const processOf = () => ({
  ...{ id: 'p', host: 'h', pid: 1, role: 'server', version: '0', leads: 0, marks: '{}' },
  seen_at: '2026-11-21T06:10:00.000Z',
})

/** Boots to stage 1 so often, each a minute after the one before, and hears nothing. */
async function fall(world: World, machine: Machine, times: number): Promise<void> {
  for (let n = 0; n < times; n += 1) {
    await boot(world, machine, 'stage1')
    world.clock.advance(60)
  }
}

/** Boots with so many seconds in each stage. */
async function bootIn(world: World, machine: Machine, seconds: number): Promise<void> {
  const { handoverToken } = await askStage1(world, machine)
  const opened = await askHandover(world, machine, handoverToken)
  world.clock.advance(seconds)
  const second = await askStage(world, machine, 'stage2', opened.stage2)
  world.clock.advance(seconds * 2)
  const third = await askStage(world, machine, 'stage3', second.token)
  world.clock.advance(seconds * 3)
  await askStage(world, machine, 'join', third.token)
  world.clock.advance(seconds * 4)
  await report(world, machine, opened.report, 'success')
}

await forEachDatabase(t, async (t, openWorld) => {
  async function open(settings = {}): Promise<{ world: World; machine: Machine }> {
    const world = await openWorld({ settings })
    return { world, machine: machineOf(await storeDemoFleet(world)) }
  }

  await t.test('a node that loops is held back, longer each time, and never for ever', async (t) => {
    const { world, machine } = await open()
    await fall(world, machine, 3)
    const began = world.clock.now().toISOString()
    await t.rejects(askStage1(world, machine), loops(30))
    await t.rejects(askStage1(world, machine), loops(30), 'who comes too early waits for the rest only')
    world.clock.advance(10)
    await t.rejects(askStage1(world, machine), loops(20))
    t.equal((await nodeRow(world)).looping_since, began)
    t.same((await showNode(world.context.storage.db, 'node1')).looping, {
      since: began,
      heldBackUntil: '2026-11-21T06:03:30.000Z',
    })
    for (const pause of [20, 60, 120, 240, 480, 600, 600]) {
      world.clock.advance(pause - 1)
      await t.rejects(askStage1(world, machine), { code: 'too-many-boots' })
      world.clock.advance(1)
      await boot(world, machine, 'stage1')
      world.clock.advance(60)
      await t.rejects(askStage1(world, machine), { code: 'too-many-boots' })
    }
    const events = await world.events({ kind: 'node-looping' })
    t.equal(events.length, 1, 'told once')
    t.match(events[0], { node: 'node1', detail: { why: 'no-report', unreported: 3, retryAfterSeconds: 30 } })
    t.ok((await world.kinds({ kind: 'too-many-boots' })).length > 3)
  })

  await t.test('a success ends it', async (t) => {
    const { world, machine } = await open()
    await fall(world, machine, 3)
    await t.rejects(askStage1(world, machine), loops(30))
    world.clock.advance(30)
    await boot(world, machine, 'ready')
    t.match(await nodeRow(world), { state: 'ready', looping_since: null, held_back_until: null })
    await fall(world, machine, 3)
    await t.rejects(askStage1(world, machine), loops(30), 'it begins anew')
    t.equal((await world.kinds({ kind: 'node-looping' })).length, 2)
  })

  await t.test('nobody holds back a node that he cannot prove to be', async (t) => {
    const { world, machine } = await open()
    const wrong = { ...machine, fields: { ...facts, secret: 'x'.repeat(44) } }
    for (let n = 0; n < 30; n += 1) await t.rejects(askStage1(world, wrong), { code: 'refused' })
    const other = { ...machine, fields: { ...machine.fields, uuid: '99999999-2222-3333-4444-555555555555' } }
    await boot(world, machine, 'stage1')
    for (let n = 0; n < 5; n += 1)
      await t.rejects(askStage1(world, other), { code: 'refused' }, 'nor does another machine beside it')
    world.clock.advance(60)
    await fall(world, machine, 2)
    t.equal((await nodeRow(world)).looping_since, null)
  })

  await t.test('a second NIC and a lost answer are no boots more', async (t) => {
    const { world, machine } = await open()
    for (let n = 0; n < 3; n += 1) {
      await boot(world, machine, 'stage1')
      world.clock.advance(5)
      await boot(world, machine, 'stage1')
      world.clock.advance(60)
    }
    await t.rejects(askStage1(world, machine), loops(30))
    world.clock.advance(30)
    await boot(world, machine, 'stage1')
    world.clock.advance(5)
    await boot(world, machine, 'stage1')
    t.pass('whose answer was lost is not held back again for it')
  })

  const acts: [string, (world: World) => Promise<unknown>][] = [
    ['enable', (world) => enableNode(world.context, ann, 'node1')],
    ['arm', (world) => armNode(world.context, ann, 'node1')],
    ['reinstall', (world) => reinstall(world.context, ann, { nodes: ['node1'] })],
    [
      'disable and enable',
      async (world) => {
        await disableNode(world.context, ann, 'node1')
        await enableNode(world.context, ann, 'node1')
      },
    ],
  ]
  for (const [what, act] of acts)
    await t.test(`an operator lets it through at once: ${what}`, async (t) => {
      const { world, machine } = await open()
      await fall(world, machine, 3)
      await t.rejects(askStage1(world, machine), loops(30))
      await act(world)
      world.clock.advance(1)
      t.equal((await nodeRow(world)).looping_since, null)
      await fall(world, machine, 3)
      await t.rejects(askStage1(world, machine), loops(30), 'and counts from there')
    })

  await t.test('the limit of an hour holds whatever comes of the boots', async (t) => {
    const { world, machine } = await open({ maxStage1PerHour: 4 })
    for (let n = 0; n < 4; n += 1) {
      await boot(world, machine, 'ready')
      world.clock.advance(60)
    }
    await t.rejects(askStage1(world, machine), loops(30))
    t.match(await world.events({ kind: 'node-looping' }), [{ detail: { why: 'too-many', inHour: 4 } }])
    world.clock.advance(30)
    await boot(world, machine, 'ready')
    await t.rejects(askStage1(world, machine), loops(60))
  })

  await t.test('so does one of more than fifty an hour', async (t) => {
    const { world, machine } = await open({ maxStage1PerHour: 60, loopStage1s: 0 })
    for (let n = 0; n < 60; n += 1) {
      await boot(world, machine, 'stage1')
      world.clock.advance(31)
    }
    await t.rejects(askStage1(world, machine), loops(30))
  })

  await t.test('a success does not take back that an operator let its boots count anew', async (t) => {
    const { world, machine } = await open({ maxStage1PerHour: 4 })
    const bootsWell = async (times: number): Promise<void> => {
      for (let n = 0; n < times; n += 1) {
        await boot(world, machine, 'ready')
        world.clock.advance(60)
      }
    }
    await bootsWell(3)
    await armNode(world.context, ann, 'node1')
    world.clock.advance(1)
    await bootsWell(4)
    await t.rejects(askStage1(world, machine), loops(30))
  })

  await t.test(
    'a client that takes JSON is held back alike; a held node is told that it is held',
    async (t) => {
      const { world, machine } = await open()
      await fall(world, machine, 3)
      const asked = { ...machine, request: 'stage1.json', format: 'json' as const }
      await t.rejects(serveStage1(world.context, asked), loops(30))
      await world.context.storage.db.updateTable('nodes').set({ state: 'held' }).execute()
      t.match(await askStage1(world, machine), { template: 'held.ipxe' })
    },
  )

  await t.test('what is usual is learned from boots that ended well', async (t) => {
    const { world, machine } = await open()
    t.equal(await learnUsualTimes(world.context), 0)
    for (let n = 0; n < 4; n += 1) await bootIn(world, machine, 10 + n)
    t.equal(await learnUsualTimes(world.context), 4)
    t.same(await listUsualTimes(world.context.storage.db), [], 'four are too few')
    await boot(world, machine, 'stage2') // never ends: of no use
    world.clock.advance(60)
    await bootIn(world, machine, 14)
    t.equal(await learnUsualTimes(world.context), 1)
    t.equal(await learnUsualTimes(world.context), 0, 'each is looked at once')
    const rows = await listUsualTimes(world.context.storage.db)
    t.same(
      rows
        .map((row) => [row.profile, row.sequence, row.stage, row.median_seconds, row.p99_seconds, row.boots])
        .sort(),
      [
        ['demo', 'boot', 'join', 48, 56, 5],
        ['demo', 'boot', 'stage1', 12, 14, 5],
        ['demo', 'boot', 'stage2', 24, 28, 5],
        ['demo', 'boot', 'stage3', 36, 42, 5],
      ],
    )
    const storm = machineOf(await storeNode(world, { name: 'storm1', labels: '{"pawl-storm":"abcdef"}' }), {
      host: 'storm1',
    })
    await bootIn(world, { ...storm, fields: { secret: storm.fields.secret } }, 500)
    t.equal(await learnUsualTimes(world.context), 1)
    t.same(await listUsualTimes(world.context.storage.db), rows, 'a storm teaches nothing')
    await boot(world, machine, 'stage1')
    world.clock.advance(20)
    const { stages, session } = await timelineOf(world.context, 'node1')
    t.match(stages, [
      {
        stage: 'stage1',
        usualSeconds: 12,
        slowAfterSeconds: 29,
        stuckAfterSeconds: 87,
        usualFrom: 'learned',
      },
    ])
    t.equal(session?.pace?.state, 'usual')
    world.clock.advance(10)
    t.equal((await timelineOf(world.context, 'node1')).session?.pace?.state, 'slow')
    await world.context.storage.db
      .deleteFrom('events')
      .where('kind', '=', 'none' as never)
      .execute()
  })

  await t.test('a boot is slow, then stuck: one event for each, and why', async (t) => {
    const { world, machine } = await open()
    await storeProfile(world, { ...demoProfile, expect: { stage1: 60 } })
    const { db } = world.context.storage
    const learnt = await boot(world, machine, 'stage1')
    world.clock.advance(60)
    await tendPaces(world.context)
    t.equal((await showNode(db, 'node1')).pace, 'usual')
    world.clock.advance(1)
    await tendPaces(world.context)
    await tendPaces(world.context)
    t.match(await world.events({ kind: 'boot-slow' }), [
      {
        node: 'node1',
        session: learnt.session,
        actor: 'server',
        detail: {
          stage: 'stage1',
          seconds: 61,
          usualSeconds: 60,
          slowAfterSeconds: 60,
          code: 'firmware-silent',
        },
      },
    ])
    t.equal((await showNode(db, 'node1')).pace, 'slow')
    t.same((await showStatus(world.context)).boots, { slow: 1, stuck: 0, looping: 0 })
    t.match((await timelineOf(world.context, 'node1')).session?.pace, {
      state: 'slow',
      since: '2026-11-21T06:01:00.000Z',
      code: 'firmware-silent',
      reason: 'nothing was heard since stage 1 was served, 61 s ago',
    })
    world.clock.advance(120)
    await tendPaces(world.context)
    await tendPaces(world.context)
    t.match(await world.events({ kind: 'boot-stuck' }), [{ detail: { stage: 'stage1', seconds: 181 } }])
    t.equal((await pageOfNodes(db, { limit: 10 })).items[0]?.pace, 'stuck')
    t.equal((await overviewOf(db)).nodes[0]?.pace, 'stuck')
    t.same((await showStatus(world.context)).boots, { slow: 0, stuck: 1, looping: 0 })
    await db
      .transaction()
      .execute((tx) =>
        addProgress(tx, [{ session: learnt.session, stage: 'stage1', bytes: 1, at: world.clock.now() }]),
      )
    await tendPaces(world.context)
    t.equal((await showNode(db, 'node1')).pace, 'slow', 'its download moves again')
    world.clock.advance(300)
    await tendPaces(world.context)
    t.equal((await showNode(db, 'node1')).pace, 'stuck')
    t.same(
      (await world.kinds()).filter((kind) => kind.startsWith('boot-')),
      ['boot-slow', 'boot-stuck'],
      'once each',
    )
    const opened = await askHandover(world, machine, learnt.handoverToken)
    await askStage(world, machine, 'stage2', opened.stage2)
    t.equal((await showNode(db, 'node1')).pace, 'usual', 'the next stage has its own time')
    await report(world, machine, opened.report, 'error: no disk')
    world.clock.advance(1801)
    await tendPaces(world.context)
    t.match((await timelineOf(world.context, 'node1')).session?.pace, {
      state: 'stuck',
      code: 'attempt-failed',
      reason: 'it reported an error and may try again: error: no disk',
    })
    t.same(
      (await world.kinds()).filter((kind) => kind.startsWith('boot-')),
      ['boot-slow', 'boot-stuck', 'boot-stuck'],
    )
    await boot(world, machine, 'stage1')
    t.equal((await showNode(db, 'node1')).pace, 'usual')
    await disableNode(world.context, ann, 'node1')
    t.equal((await showNode(db, 'node1')).pace, null, 'what has ended has no pace')
    t.same((await showStatus(world.context)).boots, { slow: 0, stuck: 0, looping: 0 })
  })

  await t.test('a look at the boots lets others have their turn', async (t) => {
    const { world, machine } = await open()
    const { session } = await boot(world, machine, 'stage1')
    world.clock.advance(601)
    await world.context.storage.transaction((tx) =>
      addProgress(tx, [{ session, stage: 'stage1', bytes: 1, at: world.clock.now() }]),
    )
    await tendPaces(world.context)
    const turn = new Promise((resolve) => setImmediate(() => resolve('a turn')))
    const looked = tendPaces(world.context)
    t.equal(await Promise.race([turn, looked.then(() => 'nobody else')]), 'a turn')
    await looked
  })

  await t.test('the reason is what the server knows last', async (t) => {
    const { world, machine } = await open()
    await boot(world, machine, 'handover')
    world.clock.advance(601)
    const code = async () => (await timelineOf(world.context, 'node1')).session?.pace?.code
    t.equal(await code(), 'kernel-silent')
    const stats = { nodes: [] as object[], working: 0 }
    const tell = (of: object): Promise<unknown> =>
      world.context.storage.db
        .insertInto('processes')
        .values({
          ...processOf(),
          started_at: '2026-11-21T06:05:00.000Z',
          stats: JSON.stringify({ ...stats, ...of }),
        })
        .onConflict((c) => c.column('id').doUpdateSet({ stats: JSON.stringify({ ...stats, ...of }) }))
        .execute()
    await tell({})
    t.equal(await code(), 'server-away')
    world.context.refusals.record({
      ...{ kind: 'handshake-failed', cause: 'x', node: null, session: null, source: '192.0.2.10' },
      detail: { reason: 'no common cipher' },
    })
    await world.context.refusals.flush()
    t.equal(await code(), 'handshake-failed')
    const waits = { node: 'node1', request: 'stage2', source: '192.0.2.10', since: 'x', at: 'x', times: 1 }
    await tell({ nodes: [{ ...waits, until: '2026-11-21T06:11:00.000Z' }] })
    t.equal(await code(), 'told-to-wait')
    await tell({ nodes: [{ ...waits, until: '2026-11-21T06:11:00.000Z', why: 'its cluster is down' }] })
    t.equal(await code(), 'join-waits')
    await t.rejects(askStage(world, machine, 'stage2', 'x'.repeat(44)), { code: 'refused' })
    await world.events()
    t.equal(await code(), 'refused')
    const other = { ...machine, source: '192.0.2.66', fields: { ...machine.fields, uuid: otherUuid } }
    await t.rejects(askStage1(world, other), { code: 'refused' })
    await world.events()
    t.match((await timelineOf(world.context, 'node1')).session?.pace, {
      code: 'another-machine',
      reason: 'another machine came as this node, from 192.0.2.66, and was refused',
    })
  })
})

t.test('a leader that is killed between the event and its record leaves neither', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-pace-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const first = join(folder, 'first.db')
  const world = await openAt(t, first, {})
  await boot(world, machineOf(await storeDemoFleet(world)), 'stage1')
  await world.context.storage.close()
  const run = async (n: number): Promise<[string, number | undefined]> => {
    const database = join(folder, `${n}.db`)
    copyFileSync(first, database)
    const child = fork(join(import.meta.dirname, 'pace-child.ts'), [database, String(n)])
    let statements: number | undefined
    child.once('message', (message) => {
      statements = Number(message)
    })
    await once(child, 'exit')
    return [database, statements]
  }
  const [, all = 0] = await run(0)
  t.ok(all > 10, 'it comes to some statements')
  for (let n = all; n > Math.max(0, all - 12); n -= 1) {
    const [database, statements] = await run(n)
    t.equal(statements, undefined, `killed before statement ${n}`)
    const after = await openAt(t, database, {})
    after.clock.advance(700)
    const { db } = after.context.storage
    const marks = await db.selectFrom('session_paces').selectAll().execute()
    t.equal((await after.kinds({ kind: 'boot-stuck' })).length, marks.length, 'both or none')
    await tendPaces(after.context)
    t.equal((await after.kinds({ kind: 'boot-stuck' })).length, 1, 'and the next leader tells it, once')
  }
})
