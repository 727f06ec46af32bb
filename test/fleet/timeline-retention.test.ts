import t from 'tap'
import { nodeSessions } from '../../src/fleet/node-logs.ts'
import { openStory } from '../../src/fleet/open-story.ts'
import { timelineOf } from '../../src/fleet/timeline.ts'
import { forgetOldSessions } from '../../src/fleet/timeline-retention.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { boot, facts, machineOf, report } from '../helpers/machine.ts'
import { forEachDatabase } from '../helpers/world.ts'

const day = 86_400

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'old boots go, but for the last of each node and of each way to end; events stay',
    async (t) => {
      const world = await openWorld()
      const secret = await storeDemoFleet(world)
      const machine = machineOf(secret)
      const sessions: Record<string, string> = {}
      for (const how of ['ready', 'failed', 'ready again', 'failed again', 'failed last']) {
        const learnt = await boot(world, machine, how.startsWith('ready') ? 'ready' : 'stage2')
        if (how.startsWith('failed'))
          await report(world, machine, learnt.report, 'error: broken', { final: true })
        sessions[how] = learnt.session
        world.clock.advance(day)
      }
      await openStory(world.context).stage1({
        host: 'node1',
        source: '192.0.2.10',
        request: 'stage1.ipxe',
        fields: { ...facts, secret },
        format: 'ipxe',
      })
      const events = (await world.events()).length
      world.clock.advance(100 * day)
      t.equal(await forgetOldSessions(world.context, 0), 0, '0: for ever')
      t.equal(await forgetOldSessions(world.context, 104), 1, 'only what is old enough')
      t.equal(await forgetOldSessions(world.context, 90), 2)
      const { storage } = world.context
      const transaction = () => t.fail('nothing is written for those that stay') as never
      t.equal(await forgetOldSessions({ ...world.context, storage: { ...storage, transaction } }, 90), 0)
      const { items } = await nodeSessions(world.context, 'node1', { limit: 10 })
      t.same(
        items.slice(1).map(({ id }) => id),
        [sessions['failed last'], sessions['ready again']],
      )
      t.equal(items[0]?.endedAt, null, 'a boot that has not ended is no old one')
      t.equal((await timelineOf(world.context, 'node1')).stages[0]?.spans.length, 1)
      const left = await world.context.storage.db.selectFrom('tokens').select('session').distinct().execute()
      t.equal(left.length, 3, 'tokens go with their sessions')
      t.equal((await world.events()).length, events)
    },
  )
})
