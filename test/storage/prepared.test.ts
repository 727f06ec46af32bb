import { sql } from 'kysely'
import t from 'tap'
import { openStorage, type Queries } from '../../src/storage/database.ts'
import { statement } from '../../src/storage/statement.ts'
import { postgresAbsent } from '../helpers/postgres.ts'
import { startCluster } from '../helpers/postgres-cluster.ts'

const skip = process.env.PAWL_REQUIRE === 'all' ? false : (postgresAbsent() ?? false)

const findNode = statement<{ name: string }>()((db, value) =>
  db.selectFrom('nodes').selectAll().where('name', '=', value('name')),
)

const preparedBy = async (db: Queries): Promise<string[]> => {
  const asked = sql<{ statement: string }>`select statement from pg_prepared_statements`
  return (await asked.execute(db)).rows.map((row) => row.statement)
}

t.test('PostgreSQL keeps statements prepared, and what makes them stale is no fault', { skip }, async (t) => {
  const cluster = await startCluster(t)
  const storage = await openStorage(await cluster.create('prepared'), { connections: 1 })
  t.teardown(() => storage.close())
  const { db } = storage
  const find = (of: Queries = db): Promise<unknown> => findNode.first(of, { name: 'n' })
  const findTwice = async (message: string): Promise<void> => {
    let runs = 0
    await storage.transaction(async (tx) => {
      runs += 1
      await tx.updateTable('nodes').set({ name: 'x' }).where('name', '=', 'none').execute()
      await find(tx)
      await find(tx)
    })
    t.equal(runs, 2, message)
  }

  await find()
  await find()
  const texts = (await preparedBy(db)).filter((text) => text.includes('"nodes"'))
  t.equal(texts.length, 1, 'once, by its name')
  t.same(
    (await preparedBy(db)).filter((text) => text.includes('pg_prepared_statements')),
    [],
    'what is no statement of the hot path is not kept',
  )

  await t.test('a newer server of a rolling update adds a column', async (t) => {
    await cluster.query('alter table nodes add column newer text', 'prepared')
    t.equal(await find(), undefined, 'outside of a transaction')
    await cluster.query('alter table nodes add column newest text', 'prepared')
    await findTwice('a transaction is run again')
  })

  await t.test('somebody discards them', async (t) => {
    await sql`deallocate all`.execute(db)
    t.equal(await find(), undefined)
    await sql`deallocate all`.execute(db)
    await findTwice('a transaction is run again')
  })

  await t.test('another fault is not tried again', async (t) => {
    await cluster.query('drop table nodes cascade', 'prepared')
    await t.rejects(find(), { code: '42P01' })
    let runs = 0
    const lost = storage.transaction(async (tx) => {
      runs += 1
      await find(tx)
    })
    await t.rejects(lost, { code: '42P01' })
    t.equal(runs, 1)
  })
})
