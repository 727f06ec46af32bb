import t from 'tap'
import { loggingStages, silentMeter } from '../../src/boot/stage-log.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { askStage1, boot, machineOf, report } from '../helpers/machine.ts'
import { until } from '../helpers/until.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

/** The same world as another process of it, with a log of its own. */
function logging(world: World): { world: World; lines: unknown[][] } {
  const lines: unknown[][] = []
  const keep = (level: string) => (fields: Record<string, unknown>) => {
    const { node, stage, outcome, seconds, cause } = fields
    lines.push([level, node, stage, outcome, seconds, ...(cause === undefined ? [] : [cause])])
  }
  const meter = loggingStages(
    silentMeter,
    { info: keep('info'), warn: keep('warn') } as unknown as Parameters<typeof loggingStages>[1],
    world.context.storage.db,
  )
  return { world: { ...world, context: { ...world.context, meter } }, lines }
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('each stage is one line when it is over; a failure is a warning with its cause', async (t) => {
    const own = await openWorld()
    const machine = machineOf(await storeDemoFleet(own))
    const { world, lines } = logging(own)
    await boot(world, machine, 'ready')
    world.clock.advance(600)
    const learnt = await boot(world, machine, 'stage2')
    world.clock.advance(7)
    await report(world, machine, learnt.report, 'error: broken', { final: true })
    t.same(lines, [
      ['info', 'node1', 'stage1', 'done', 0],
      ['info', 'node1', 'stage2', 'done', 0],
      ['info', 'node1', 'stage3', 'done', 0],
      ['info', 'node1', 'join', 'done', 0],
      ['info', 'node1', 'report', 'ready', 0],
      ['info', 'node1', 'stage1', 'done', 0],
      ['warn', 'node1', 'stage2', 'failed', 7, 'error: broken'],
    ])
  })

  await t.test('a stage that another process saw begin is looked up', async (t) => {
    const own = await openWorld()
    const machine = machineOf(await storeDemoFleet(own))
    await boot(own, machine, 'stage3')
    own.clock.advance(60)
    const { world, lines } = logging(own)
    await askStage1(world, machine)
    await until(t, async () => lines, [['info', 'node1', 'stage3', 'superseded', 60, 'a later stage 1']])
  })
})
