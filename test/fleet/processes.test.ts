import t from 'tap'
import type { Heartbeat, ProcessLoad, WaitingNode } from '../../src/domain/load.ts'
import { showProcesses, takeHeartbeat, waitingNodes } from '../../src/fleet/processes.ts'
import { openGate } from '../../src/http/gate.ts'
import { openHeart } from '../../src/http/heartbeat.ts'
import { forgetOtherLeaders, listServers } from '../../src/storage/processes.ts'
import { storeNode } from '../helpers/fleet.ts'
import { forEachDatabase } from '../helpers/world.ts'

const load = (more: Partial<ProcessLoad> = {}): ProcessLoad => {
  const gate = openGate()
  gate.close()
  return { ...gate.load(), memoryBytes: 1, cpuSeconds: 1, eventLoopLagSeconds: 0, ...more }
}

const beat = (id: string, more: Partial<Heartbeat> = {}): Heartbeat => ({
  process: { id, host: 'boot-1', pid: 7, role: 'server', startedAt: '2026-11-21T06:00:00.000Z' },
  load: load(),
  spells: [],
  nodes: [],
  ...more,
})

const waits = (node: string, at: string, more: Partial<WaitingNode> = {}): WaitingNode => ({
  node,
  request: 'stage1.ipxe',
  source: '192.0.2.1',
  since: at,
  at,
  times: 1,
  until: at,
  ...more,
})

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('a process is there as it said last, until it says nothing any more or ends', async (t) => {
    const { context, clock } = await openWorld()
    const { db } = context.storage
    await takeHeartbeat(context, beat('a', { load: load({ waiting: 3 }) }))
    await takeHeartbeat(context, beat('b'))
    clock.advance(15)
    await takeHeartbeat(context, beat('a', { load: load({ waiting: 5 }) }))
    t.match(await showProcesses(db), [
      { id: 'a', seenAt: '2026-11-21T06:00:15.000Z', load: { waiting: 5 } },
      { id: 'b', seenAt: '2026-11-21T06:00:00.000Z', host: 'boot-1', pid: 7, role: 'server' },
    ])
    clock.advance(10)
    await takeHeartbeat(context, beat('a'))
    t.match(
      (await showProcesses(db)).map(({ id }) => id),
      ['a'],
      'killed: it said nothing for 25 s',
    )
    await takeHeartbeat(context, beat('a', { ends: true }))
    t.same(await showProcesses(db), [])
  })

  await t.test(
    'a server says its version, whether it leads and its marks; a worker none of it',
    async (t) => {
      const { context } = await openWorld()
      const { db } = context.storage
      const server = (leads: boolean) => ({ version: '1.2.3', leads, marks: { publicUrl: '"x"' } })
      const rows = () => db.selectFrom('processes').select(['id', 'leads', 'version']).orderBy('id').execute()
      await takeHeartbeat(context, beat('a', { server: server(true) }))
      await takeHeartbeat(context, beat('w', { process: { ...beat('w').process, role: 'worker' } }))
      await takeHeartbeat(context, beat('x', { server: { ...server(true), marks: null } }))
      t.same(await listServers(db, context.clock()), [
        { id: 'a', host: 'boot-1', pid: 7, version: '1.2.3', leads: 1, marks: '{"publicUrl":"\\"x\\""}' },
      ])
      await forgetOtherLeaders(db, 'x')
      t.same(
        await rows(),
        [
          { id: 'a', leads: 0, version: '1.2.3' },
          { id: 'w', leads: null, version: null },
          { id: 'x', leads: 1, version: '1.2.3' },
        ],
        'who was killed leads no more, at once',
      )
      await takeHeartbeat(context, beat('x', { server: server(false) }))
      t.match((await rows())[2], { leads: 0 })
      const later = new Date(context.clock().getTime() + 1)
      t.same(await listServers(db, later), [], 'who has said nothing since is no server')
    },
  )

  await t.test('an overload is one event when it begins and one when it is over', async (t) => {
    const { context, events } = await openWorld()
    const since = '2026-11-21T05:59:58.000Z'
    await takeHeartbeat(context, beat('a', { spells: [{ since, until: null, times: 12 }] }))
    await takeHeartbeat(context, beat('a'))
    const until = '2026-11-21T06:03:00.000Z'
    await takeHeartbeat(context, beat('a', { spells: [{ since, until, times: 900 }] }))
    t.match(await events(), [
      { kind: 'overload-began', node: null, actor: 'server', detail: { host: 'boot-1', pid: 7, since } },
      { kind: 'overload-ended', detail: { host: 'boot-1', pid: 7, since, until, times: 900 } },
    ])
    t.equal((await events()).length, 2)
  })

  await t.test('which nodes wait is told of all processes, the latest word of each', async (t) => {
    const { context } = await openWorld()
    const first = '2026-11-21T06:00:00.000Z'
    const later = '2026-11-21T06:00:05.000Z'
    await takeHeartbeat(
      context,
      beat('a', { load: load({ nodes: [waits('mlab1', first), waits('mlab2', later)] }) }),
    )
    await takeHeartbeat(
      context,
      beat('b', { load: load({ nodes: [waits('mlab1', later), waits('mlab2', first)] }) }),
    )
    const found = await waitingNodes(context.storage.db)
    t.same(
      [...found.values()].map(({ node, at }) => [node, at]),
      [
        ['mlab1', later],
        ['mlab2', later],
      ],
    )
  })

  await t.test('a row has its bound, whatever names were made up', async (t) => {
    const { context } = await openWorld()
    const nodes = Array.from({ length: 300 }, (_, n) =>
      waits(`${n}`.padEnd(253, 'ü'), '2026-11-21T06:00:00.000Z'),
    )
    await takeHeartbeat(context, beat('a', { load: load({ nodes, nodesWaiting: 300 }) }))
    const [row] = await context.storage.db.selectFrom('processes').selectAll().execute()
    t.ok(Buffer.byteLength(row?.stats ?? '') <= 60_000)
    t.match((await showProcesses(context.storage.db))[0]?.load, { nodesWaiting: 300, nodes: { length: 75 } })
  })

  await t.test('the sites of nodes are answered to who asks', async (t) => {
    const world = await openWorld()
    const { context } = world
    await storeNode(world, { name: 'mlab1', profile: null, labels: JSON.stringify({ site: 'lga' }) })
    await storeNode(world, { name: 'mlab2', profile: null })
    t.same(await takeHeartbeat(context, beat('a', { nodes: ['mlab1', 'mlab2', 'nobody'] })), { mlab1: 'lga' })
  })

  await t.test('what could not be written is told in the next beat', async (t) => {
    const { context, kinds } = await openWorld()
    const gate = openGate({ clock: context.clock })
    t.teardown(() => gate.close())
    let away = true
    const heart = openHeart(gate, { host: 'h', pid: 1, role: 'worker', startedAt: '' }, async (beat) => {
      if (away) throw new Error('the database is away')
      return takeHeartbeat(context, beat)
    })
    gate.told.note({ site: 'x', node: 'mlab1', request: 'stage2', source: '192.0.2.1', seconds: 5 })
    await t.rejects(heart.beat(), { message: 'the database is away' })
    away = false
    await Promise.all([heart.beat(), heart.beat()])
    t.same(await kinds(), ['overload-began'])
    t.match([...(await waitingNodes(context.storage.db)).keys()], ['mlab1'])
    await heart.end()
    t.same(await showProcesses(context.storage.db), [])
  })
})
