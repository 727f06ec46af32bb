import t from 'tap'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import { ticketKeyNow, ticketPeriodSeconds } from '../../src/boot/ticket-key.ts'
import { forEachDatabase } from '../helpers/world.ts'

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('all who ask in one period get one key, and the next period has another', async (t) => {
    const { context, clock } = await openWorld()
    const keys = await Promise.all(Array.from({ length: 8 }, () => ticketKeyNow(context)))
    t.same(new Set(keys.map(({ bytes }) => Buffer.from(bytes).toString('hex'))).size, 1)
    t.equal(keys[0]?.bytes.length, 48)
    clock.advance(ticketPeriodSeconds)
    const next = await ticketKeyNow(context)
    t.equal(next.period, (keys[0]?.period ?? 0) + 1)
    t.notSame(Buffer.from(next.bytes), Buffer.from(keys[0]?.bytes ?? []))
  })

  await t.test('a key is sealed in the database, and gone when two periods are over', async (t) => {
    const world = await openWorld()
    const { bytes } = await ticketKeyNow(world.context)
    const stored = await world.dump()
    t.notMatch(stored, Buffer.from(bytes).toString('base64'))
    t.notMatch(stored, Buffer.from(bytes).toString('hex'))
    const rows = () => world.context.storage.db.selectFrom('ticket_keys').select('period').execute()
    world.clock.advance(ticketPeriodSeconds)
    await ticketKeyNow(world.context)
    t.equal((await rows()).length, 2, 'one more, for a replica whose clock is behind')
    world.clock.advance(ticketPeriodSeconds)
    await ticketKeyNow(world.context)
    t.equal((await rows()).length, 2)
  })

  await t.test('what another settings key has sealed is replaced', async (t) => {
    const { context } = await openWorld()
    const before = await ticketKeyNow(context)
    const other = { ...context, sealer: settingsSealer(Buffer.alloc(32, 8)) }
    const after = await ticketKeyNow(other)
    t.equal(after.period, before.period)
    t.notSame(Buffer.from(after.bytes), Buffer.from(before.bytes))
    t.same(await ticketKeyNow(other), after)
  })
})
