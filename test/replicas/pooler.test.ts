import pg from 'pg'
import t, { type Test } from 'tap'
import { examine } from '../../src/doctor/examine.ts'
import { openStorage } from '../../src/storage/database.ts'
import { refuseLentSessions } from '../../src/storage/postgres-session.ts'
import { configOf, install, portOf, serve } from '../backup/helpers.ts'
import { pgbouncerAbsent, startPgbouncer } from '../helpers/pgbouncer.ts'
import { postgresAbsent } from '../helpers/postgres.ts'
import { startCluster } from '../helpers/postgres-cluster.ts'
import { bootRobot } from '../helpers/robot.ts'
import { until } from '../helpers/until.ts'

const skip = process.env.PAWL_REQUIRE === 'all' ? false : (postgresAbsent() ?? pgbouncerAbsent() ?? false)
const lent = {
  code: 'storage-unavailable',
  message: /^database postgres:\/\/pawl@\S+ is behind a pooler that lends its sessions out/,
  hint: /pool_mode = session/,
}

/** Clients of the same pooler that ask without a pause. */
async function keepBusy(t: Test, url: string, clients: number): Promise<void> {
  let over = false
  const all = Array.from({ length: clients }, async () => {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    while (!over) await client.query('select pg_sleep(random() / 500)')
    await client.end()
  })
  t.teardown(async () => {
    over = true
    await Promise.all(all)
  })
}

t.test('a pooler that lends sessions out is refused, and left as it was', { skip }, async (t) => {
  const cluster = await startCluster(t)
  const { dataDir } = await install(t, () => cluster.create('pawl'))
  for (const mode of ['transaction', 'statement'] as const) {
    await t.test(mode, async (t) => {
      const database = (await startPgbouncer(t, cluster, mode))('pawl')
      await t.rejects(serve(t, dataDir, database), lent, 'a server does not start')
      const { findings } = await examine({
        ...{ dataDir, configOf: () => configOf(dataDir, { database }), now: new Date(), version: '0.6.0' },
        ...{ hostName: 'localhost', nodeVersion: '24.0.0', full: false, isAlive: () => false },
        templatesFolder: `${import.meta.dirname}/../../ipxe-templates`,
      })
      t.match(
        findings.find(({ check }) => check === 'database'),
        { level: 'fail', found: lent.message, advice: lent.hint },
      )
      const other = new pg.Client({ connectionString: database })
      await other.connect()
      const { rows } = await other.query(
        "select current_setting('statement_timeout') as time, current_setting('default_transaction_read_only') as only",
      )
      await other.end()
      t.same(rows, [{ time: '0', only: 'off' }], 'who has the session next finds nothing of ours in it')
      await keepBusy(t, database, 8)
      for (let n = 0; n < 5; n += 1) await t.rejects(openStorage(database), lent, 'while others use it, too')
    })
  }
})

t.test('sessions that come out even for a few rounds are found to be lent all the same', async (t) => {
  const asked = (sessions: string[]) => ({
    connect: async () => {},
    query: async () => ({ rows: [{ session: sessions.length > 1 ? sessions.shift() : sessions[0] }] }),
    end: async () => {},
  })
  const own = asked(['a', 'a', 'a', 'a', 'a', 'b'])
  await t.rejects(
    refuseLentSessions(own, () => asked(['b']), 'postgres://pawl@db/pawl'),
    lent,
  )
  await refuseLentSessions(asked(['a']), () => asked(['b']), 'postgres://pawl@db/pawl')
})

t.test('behind a pooler in session mode all of it works', { skip }, async (t) => {
  const cluster = await startCluster(t)
  const { dataDir, ca, secret } = await install(t, () => cluster.create('pawl'))
  const database = (await startPgbouncer(t, cluster, 'session'))('pawl')
  const server = await serve(t, dataDir, database)
  const lost = (): Promise<void> => Promise.reject(new Error('the server went away'))
  await bootRobot({ port: portOf(server), ca, host: 'node1', secret, onLost: lost })

  const storage = await openStorage(database)
  t.teardown(() => storage.close())
  const heard: unknown[] = []
  storage.wake.hear('session-ended', (words) => heard.push(words))
  await until(t, async () => heard, [undefined])
  const other = await openStorage(database)
  other.wake.tell('session-ended', 'a session')
  await until(t, async () => heard, [undefined, ['a session']])
  await other.close()

  const led = new Promise<void>((resolve) => {
    const leadership = storage.lead((leads) => leads && resolve())
    t.teardown(() => leadership.resign())
  })
  const leaders = (): Promise<unknown[]> =>
    cluster.query("select 1 from pg_locks where locktype = 'advisory' and objsubid = 2 and granted", 'pawl')
  await until(t, async () => (await leaders()).length, 1)
  await server.close()
  await led
  t.equal((await leaders()).length, 1, 'and when it ends, another')
})
