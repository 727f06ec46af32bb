import pg from 'pg'
import t from 'tap'
import { downgradeDatabase } from '../../src/storage/downgrade.ts'
import { knownMigrations } from '../../src/storage/migrate.ts'
import { lookingName } from '../../src/storage/postgres-session.ts'
import { install, serve } from '../backup/helpers.ts'
import { pgbouncerAbsent, startPgbouncer } from '../helpers/pgbouncer.ts'
import { postgresAbsent } from '../helpers/postgres.ts'
import { startCluster } from '../helpers/postgres-cluster.ts'
import { until } from '../helpers/until.ts'

const skip = process.env.PAWL_REQUIRE === 'all' ? false : (postgresAbsent() ?? pgbouncerAbsent() ?? false)
const [target = '', newest = ''] = knownMigrations.slice(-2)

function goBack(location: string, apply = true) {
  const now = new Date('2026-11-22T12:00:00Z')
  return downgradeDatabase(location, target, { apply, release: '0.0.0', now })
}

t.test('a database behind a pooler is taken back when nobody has it open', { skip }, async (t) => {
  const cluster = await startCluster(t)
  const { dataDir } = await install(t, () => cluster.create('pawl'))
  for (const mode of ['transaction', 'statement'] as const)
    await t.test(`refused in ${mode} mode`, async (t) => {
      const lent = { code: 'storage-unavailable', hint: /pool_mode = session/ }
      await t.rejects(goBack((await startPgbouncer(t, cluster, mode))('pawl')), lent)
    })
  await t.test('refused while a server has it open by the same pooler, or by itself', async (t) => {
    const pooled = (await startPgbouncer(t, cluster, 'session'))('pawl')
    const inUse = { code: 'conflict', hint: 'stop every server on it first' }
    for (const location of [pooled, cluster.url('pawl')]) {
      const server = await serve(t, dataDir, location)
      await t.rejects(goBack(pooled), inUse)
      await server.close()
    }
  })
  await t.test('a session that ends behind the first look is waited for', async (t) => {
    const connectionString = cluster.url('pawl')
    const going = new pg.Client({ connectionString })
    const watching = new pg.Client({ connectionString, application_name: lookingName })
    for (const client of [going, watching]) await client.connect()
    await going.query('select 1')
    const preview = goBack(connectionString, false)
    const looks =
      "select from pg_stat_activity where pid <> pg_backend_pid() and query like '%pg_stat_activity%'"
    await until(t, async () => (await watching.query(looks)).rowCount, 1)
    await going.end()
    t.same((await preview).undone, [newest])
    await watching.end()
  })
  await t.test('one that was asked nothing, as a pooler keeps them, is nobody', async (t) => {
    const connectionString = cluster.url('pawl')
    const silent = new pg.Client({ connectionString })
    await silent.connect()
    t.same((await goBack(connectionString, false)).undone, [newest])
    await silent.end()
  })
  // Its sessions stay open for whoever comes next, the ones of the refused questions too: they are nobody's.
  await t.test('taken back through the pooler, and beside it', async (t) => {
    const pooled = (await startPgbouncer(t, cluster, 'session'))('pawl')
    await (await serve(t, dataDir, pooled)).close()
    t.same(
      (await goBack(pooled, false)).undone,
      [newest],
      'a server that has just gone stands against it no more',
    )
    t.same((await goBack(cluster.url('pawl'))).undone, [newest], 'nor who looked before')
  })
})
