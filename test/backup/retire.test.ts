import t from 'tap'
import { retireAll } from '../../src/backup/retire.ts'
import type { Config } from '../../src/config.ts'
import { tokenFromRandom } from '../../src/domain/token.ts'
import { reinstall } from '../../src/fleet/reinstall.ts'
import { newNode, storeDemoFleet } from '../helpers/fleet.ts'
import { boot, report } from '../helpers/machine.ts'
import { ann } from '../helpers/operators.ts'
import { forEachDatabase } from '../helpers/world.ts'

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('a restore that ends a last attempt marks no further machine of its campaign', async (t) => {
    const world = await openWorld()
    const { db } = world.context.storage
    await storeDemoFleet(world)
    await db.deleteFrom('nodes').execute()
    const at = world.clock.now().toISOString()
    const secret = tokenFromRandom(world.context.randomBytes(33))
    await db
      .insertInto('nodes')
      .values([newNode('n1', secret, at), newNode('n2', tokenFromRandom(world.context.randomBytes(33)), at)])
      .execute()
    const machine = {
      host: 'n1',
      source: '192.0.2.10',
      fields: { serial: 'n1', platform: 'efi', secret: secret.text },
    }
    await reinstall(world.context, ann, { match: 'n*', maxParallel: 1 })
    for (let attempt = 1; attempt <= 2; attempt += 1) {
      const tokens = await boot(world, machine, 'stage2')
      await report(world, machine, tokens.report, 'error: no disk', { final: true })
      world.clock.advance(60)
    }
    await boot(world, machine, 'stage2') // the third attempt is under way when the backup is made
    const retired = await retireAll(world.context.storage, {
      config: world.context.settings as unknown as Config, // as much of it as ends a session
      now: world.clock.now(),
      header: { createdAt: at, version: '0.2.0' } as Parameters<typeof retireAll>[1]['header'], // what is recorded of it
    })
    t.match(retired, { sessions: 1, paused: 1, marked: ['n1'] })
    const marks = await db.selectFrom('nodes').select(['name', 'reinstall']).orderBy('name').execute()
    t.same(marks, [
      { name: 'n1', reinstall: 'marked' },
      { name: 'n2', reinstall: 'none' },
    ])
  })
})
