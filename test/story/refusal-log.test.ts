import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
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

  await t.test('what strangers say keeps no more in memory than itself', async (t) => {
    setFlagsFromString('--expose-gc')
    const gc = runInNewContext('gc') as () => void
    const { refusals } = (await openWorld({ hasRoom: async () => false })).context
    gc()
    const before = process.memoryUsage().heapUsed
    for (let n = 0; n < 9000; n += 1) {
      // A URL as long as it may be: Node's strings keep what they are parts of.
      const url = Buffer.alloc(16_000, `/v1/boot/made-up-${n}/stage1.ipxe?`).toString()
      const source = `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`
      refusals.record({ ...refused, source, detail: { host: url.slice(9, 35) } })
    }
    await refusals.flush()
    gc()
    const each = (process.memoryUsage().heapUsed - before) / 9000
    t.comment(`${Math.round(each)} bytes each`)
    t.ok(each < 3000, `${each} bytes each`)
  })
})
