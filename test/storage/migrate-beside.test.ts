import { type Kysely, sql } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { openAsItIs } from '../../src/storage/database.ts'
import {
  appliedMigrations,
  knownMigrations,
  type MigrationRetry,
  migrateDown,
  migrateToLatest,
} from '../../src/storage/migrate.ts'
import { postgresAbsent, startPostgres } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

const before = '0023-leaving'

/** A database of the release before, the connection that brings it up to date, and one of a server that goes on meanwhile. */
async function open(t: Test): Promise<{ db: Kysely<unknown>; other: pg.Client }> {
  const url = await (await startPostgres()).createDatabase()
  const storage = openAsItIs(url)
  t.teardown(() => storage.close())
  await storage.transaction(async (tx) => void (await migrateDown(tx as unknown as Kysely<unknown>, before)))
  const other = new pg.Client({ connectionString: url })
  await other.connect()
  t.teardown(() => other.end())
  return { db: storage.db as unknown as Kysely<unknown>, other }
}

/** Whether the change waits for a table that the other has. */
const waits = async (other: pg.Client): Promise<boolean> =>
  (await other.query("select from pg_locks where not granted and locktype = 'relation'")).rowCount === 1

const absent = process.env.PAWL_REQUIRE === 'all' ? undefined : postgresAbsent()

t.test(
  'the schema is brought up to date beside a server that goes on',
  { skip: absent ?? false },
  async (t) => {
    await t.test('two that wait for each other: the change is taken back, and made again', async (t) => {
      const { db, other } = await open(t)
      const retries: MigrationRetry[] = []
      // The one that has waited for longest is looked at first, and this one is never.
      await other.query("begin; set local deadlock_timeout = '60s'; lock table tokens in row exclusive mode")
      const done = migrateToLatest(db, { pauseMilliseconds: 1, onRetry: (retry) => retries.push(retry) })
      await until(t, () => waits(other), true)
      // 0024 has sessions by now, and wants tokens.
      await other.query('lock table sessions in row exclusive mode')
      await other.query('commit')
      await done
      t.same(await appliedMigrations(db), knownMigrations)
      t.ok(['40P01', '55P03'].includes(retries[0]?.code ?? ''), JSON.stringify(retries))
      t.match(retries[0], { tries: 1, of: 10 })
    })

    await t.test('a table that another has for long is waited for in short turns', async (t) => {
      const { db, other } = await open(t)
      const retries: MigrationRetry[] = []
      await other.query('begin; lock table tokens in row exclusive mode')
      await migrateToLatest(db, {
        ...{ lockMilliseconds: 300, pauseMilliseconds: 1 },
        onRetry: (retry) => {
          retries.push(retry)
          if (retries.length === 3) void other.query('commit')
        },
      })
      t.same(await appliedMigrations(db), knownMigrations)
      t.match(retries.slice(0, 3), [
        { tries: 1, code: '55P03' },
        { tries: 2, code: '55P03' },
        { tries: 3, code: '55P03' },
      ])
      const { rows } = await sql<{ lock_timeout: string }>`show lock_timeout`.execute(db)
      t.equal(rows[0]?.lock_timeout, '0', 'what else uses the connection waits as it did')
    })

    await t.test(
      'it gives up behind ten tries, with nothing changed, and says who was in the way',
      async (t) => {
        const { db, other } = await open(t)
        let retries = 0
        await other.query('begin; lock table tokens in row exclusive mode')
        const tried = migrateToLatest(db, {
          ...{ lockMilliseconds: 5, pauseMilliseconds: 1 },
          onRetry: () => {
            retries += 1
          },
        })
        await t.rejects(tried, {
          code: 'storage-unavailable',
          hint: /others used the tables .* each of 10 tries/,
        })
        t.equal(retries, 9)
        await other.query('rollback')
        t.same(
          await appliedMigrations(db),
          knownMigrations.filter((name) => name <= before),
        )
        await migrateToLatest(db)
        t.same(await appliedMigrations(db), knownMigrations)
      },
    )

    await t.test('what is no fault of others is tried once', async (t) => {
      const { db } = await open(t)
      await db.schema.createTable('extensions').addColumn('in_the_way', 'text').execute()
      const onRetry = (): void => void t.fail('it was tried again')
      await t.rejects(migrateToLatest(db, { onRetry }), {
        code: 'storage-unavailable',
        hint: /look at the log/,
      })
    })
  },
)
