import t from 'tap'
import { listEvents } from '../../src/storage/events.ts'
import { forEachDatabase } from '../helpers/world.ts'

const refused = {
  kind: 'refused',
  cause: 'no-evidence',
  node: null,
  session: null,
  source: '192.0.2.1',
  detail: {},
} as const

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('what is due by now is written, also where a write was under way before', async (t) => {
    const asked = Promise.withResolvers<void>()
    const answer = Promise.withResolvers<boolean>()
    const world = await openWorld({
      hasRoom: () => {
        asked.resolve()
        return answer.promise
      },
    })
    const { refusals } = world.context
    for (let n = 0; n < 12; n += 1) refusals.record(refused)
    await asked.promise // it has looked at the clock, and waits for the disk
    world.clock.advance(60)
    const flushed = refusals.flush()
    answer.resolve(true)
    await flushed
    const kinds = (await listEvents(world.context.storage.db, { limit: 100 })).map(({ kind }) => kind)
    t.equal(kinds.filter((kind) => kind === 'refused').length, 10)
    t.equal(kinds.at(-1), 'refusals-counted', 'the minute is over')
  })
})
