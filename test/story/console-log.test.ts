import t from 'tap'
import { keepConsoleLog } from '../../src/boot/console-log.ts'
import { nodeLogs, nodeSessions } from '../../src/fleet/node-logs.ts'
import { storeDemoFleet, storeNode } from '../helpers/fleet.ts'
import { boot, machineOf, report } from '../helpers/machine.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

const all = { lines: 1000 }

function send(world: World, token: string | undefined, text: string, host = 'node1'): Promise<void> {
  const asking = { host, source: '192.0.2.10', request: 'log' }
  return keepConsoleLog(world.context, { ...asking, token, stage: 'stage2', body: Buffer.from(text) })
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('who has not the report token of this node is refused, and keeps nothing', async (t) => {
    const world = await openWorld()
    const machine = machineOf(await storeDemoFleet(world))
    await storeNode(world, { name: 'node2' })
    const learnt = await boot(world, machine, 'stage2')
    for (const [token, host] of [
      [undefined, 'node1'],
      ['', 'node1'],
      ['nonsense', 'node1'],
      [learnt.report, 'node2'],
      [`${learnt.report.slice(0, -1)}${learnt.report.endsWith('A') ? 'B' : 'A'}`, 'node1'],
      [learnt.stage3, 'node1'],
    ] as const)
      await t.rejects(send(world, token, 'x', host), { code: 'refused' })
    t.same((await nodeLogs(world.context, 'node1', all)).logs, [])
  })

  await t.test('a loop is told to wait, and a boot has sent enough at some time', async (t) => {
    const world = await openWorld()
    const learnt = await boot(world, machineOf(await storeDemoFleet(world)), 'stage2')
    await send(world, learnt.report, 'first\n')
    await t.rejects(send(world, learnt.report, 'at once\n'), { code: 'too-many-attempts' })
    for (let times = 1; times < 20; times += 1) {
      world.clock.advance(5)
      await send(world, learnt.report, `time ${times}\n`)
    }
    world.clock.advance(60)
    await t.rejects(send(world, learnt.report, 'once more\n'), { code: 'too-many-attempts' })
    const { logs } = await nodeLogs(world.context, 'node1', all)
    t.same(
      logs.map(({ stage, text }) => [stage, text]),
      [['stage2', 'time 19\n']],
    )
  })

  await t.test('none is kept while the disk is nearly full, and a stranger is refused as ever', async (t) => {
    const world = await openWorld({ hasRoom: async () => false })
    const learnt = await boot(world, machineOf(await storeDemoFleet(world)), 'stage2')
    await t.rejects(send(world, 'nonsense', 'x'), { code: 'refused' })
    await t.rejects(send(world, learnt.report, 'x\n'), { code: 'overloaded' })
    t.same((await nodeLogs(world.context, 'node1', all)).logs, [])
  })

  await t.test('a node that fails again and again keeps the consoles of its last ten boots', async (t) => {
    const world = await openWorld({ settings: { maxStage1PerHour: 100, loopStage1s: 0 } })
    const machine = machineOf(await storeDemoFleet(world))
    const sessions: string[] = []
    for (let times = 0; times < 12; times += 1) {
      world.clock.advance(600)
      const learnt = await boot(world, machine, 'stage2')
      await report(world, machine, learnt.report, 'error: broken', { final: true })
      await send(world, learnt.report, `boot ${times}\n`)
      sessions.push(learnt.session)
    }
    const kept = await Promise.all(
      sessions.map(
        async (session) => (await nodeLogs(world.context, 'node1', { session, ...all })).logs.length,
      ),
    )
    t.same(kept, [0, 0, ...Array<number>(10).fill(1)])
    const page = await nodeSessions(world.context, 'node1', { limit: 5 })
    t.same(
      page.items.map(({ id }) => id),
      sessions.slice(-5).reverse(),
    )
    const rest = await nodeSessions(world.context, 'node1', { limit: 10, after: page.next ?? '' })
    t.same(
      rest.items.map(({ id }) => id),
      sessions.slice(0, 7).reverse(),
    )
    t.equal(rest.next, null)
    await t.rejects(nodeSessions(world.context, 'node1', { limit: 1, after: 'nobody' }), {
      code: 'not-found',
    })
    await t.rejects(nodeLogs(world.context, 'node1', { session: 'nobody', ...all }), { code: 'not-found' })
  })

  await t.test('what is kept is clean, and the last lines are shown', async (t) => {
    const world = await openWorld()
    const learnt = await boot(world, machineOf(await storeDemoFleet(world)), 'join')
    await send(world, learnt.report, `one\n${String.fromCharCode(27)}[2Jtwo ${learnt.join}\nthree\n`)
    const { session, logs } = await nodeLogs(world.context, 'node1', { lines: 2 })
    t.equal(session, learnt.session)
    t.same(logs, [
      {
        stage: 'stage2',
        at: '2026-11-21T06:00:00.000Z',
        text: `two ${learnt.join.slice(0, 12)}***\nthree\n`,
        before: 1,
      },
    ])
    t.notMatch(await world.dump(), learnt.join)
  })
})
