import t from 'tap'
import { serveStage1 } from '../../src/boot/serve-stage1.ts'
import { tokenKinds } from '../../src/domain/token.ts'
import { allowTokenKinds } from '../../src/storage/token-kinds.ts'
import { demoProfile, publishImage, storeNode, storeProfile } from '../helpers/fleet.ts'
import { forEachDatabase } from '../helpers/world.ts'

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'a kind that is not in the list is refused, and its tokens go; the others stay as they are',
    async (t) => {
      const world = await openWorld()
      const { db } = world.context.storage
      for (const [ref, letter] of [
        ['small@1', 'a'],
        ['full@1', 'b'],
        ['full@2', 'c'],
      ] as const)
        await publishImage(world, ref, letter)
      await storeProfile(world, demoProfile)
      const secret = await storeNode(world, { name: 'n1' })
      const asked = { host: 'n1', source: '192.0.2.1', request: 'stage1.ipxe', format: 'ipxe' as const }
      await serveStage1(world.context, { ...asked, fields: { secret } })
      const before = await db.selectFrom('tokens').selectAll().orderBy('id').execute()
      t.ok(before.some(({ kind }) => kind === 'handover'))
      const fewer = tokenKinds.filter((kind) => kind !== 'handover')
      await allowTokenKinds(db as never, fewer)
      const left = await db.selectFrom('tokens').selectAll().orderBy('id').execute()
      t.same(
        left,
        before.filter(({ kind }) => kind !== 'handover'),
      )
      const [first] = left
      const other = { ...(first as (typeof left)[number]), id: 'x', kind: 'handover' as const }
      await t.rejects(db.insertInto('tokens').values(other).execute(), 'not in the list')
      await allowTokenKinds(db as never, tokenKinds)
      await db.insertInto('tokens').values(other).execute()
      await t.rejects(
        db
          .insertInto('tokens')
          .values({ ...other, id: 'y' })
          .execute(),
        'one of a kind',
      )
      await t.rejects(
        db
          .insertInto('tokens')
          .values({ ...other, id: 'z', kind: 'extension', secret_hash: 'short' })
          .execute(),
        'its other rules are as before',
      )
      await t.rejects(
        db
          .insertInto('tokens')
          .values({ ...other, id: 'z', kind: 'extension', session: 'none' })
          .execute(),
        'and so is what it refers to',
      )
    },
  )
})
