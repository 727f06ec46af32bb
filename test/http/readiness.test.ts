import t from 'tap'
import { PawlError } from '../../src/errors.ts'
import { listenOver } from '../helpers/operator-listener.ts'
import { forEachDatabase } from '../helpers/world.ts'

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('is not ready from when the database was found damaged; it runs on', async (t) => {
    const world = await openWorld()
    let damage: PawlError | undefined
    const rest = { run: async () => damage, damage: () => damage, stop: () => {} }
    const context = { ...world.context, storage: { ...world.context.storage, rest } }
    const { app, logged } = await listenOver(t, { ...world, context }, {})
    const status = async (url: string) => (await app.inject(url)).statusCode
    t.equal(await status('/readyz'), 200)
    damage = new PawlError('storage-unavailable', 'database /var/lib/pawl.db is damaged', { hint: 'restore' })
    t.equal(await status('/readyz'), 503)
    t.notMatch((await app.inject('/readyz')).body, /var/, 'nobody is told where')
    t.equal(await status('/healthz'), 200)
    t.match(logged.join(''), /is damaged/)
  })
})
