import { sql } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { isPawlError } from '../../src/errors.ts'
import { openStorage } from '../../src/storage/database.ts'
import { explained } from '../../src/storage/faults.ts'
import { type GuardedClient, guardPool, type Pool } from '../../src/storage/postgres-guard.ts'
import type { Answered } from '../../src/storage/postgres-round.ts'
import { statement } from '../../src/storage/statement.ts'
import { postgresAbsent, startPostgres } from '../helpers/postgres.ts'

const skip = process.env.PAWL_REQUIRE === 'all' ? false : (postgresAbsent() ?? false)

/** A connection to a database with the table `notes`. */
async function connect(t: Test, config: pg.PoolConfig = {}): Promise<GuardedClient> {
  return (await connectTwice(t, config))[0]
}

/** Two of one pool. */
async function connectTwice(t: Test, config: pg.PoolConfig = {}): Promise<[GuardedClient, GuardedClient]> {
  const connectionString = await (await startPostgres()).createDatabase()
  // By a connection of its own: a slow machine may take longer for it than `config` gives a query.
  const maker = new pg.Client({ connectionString })
  await maker.connect()
  await maker.query('create table notes (id integer primary key, words text)')
  await maker.end()
  const pool = new pg.Pool({ connectionString, ...config })
  const guarded = guardPool(
    pool as unknown as Pool,
    (error) => explained(error, 'test'),
    (error) => isPawlError(error, 'storage-unavailable'),
  )
  const clients: [GuardedClient, GuardedClient] = [await guarded.connect(), await guarded.connect()]
  t.teardown(() => {
    for (const client of clients) client.release()
    return guarded.end()
  })
  return clients
}

const insert = (id: unknown, words: unknown = null) => ({
  ...{ name: 'insert', text: 'insert into notes (id, words) values ($1, $2)', values: [id, words] },
})
const list = { name: 'list', text: 'select * from notes order by id', values: [] }
const idsOf = ({ rows }: Answered): unknown[] => rows.map(({ id }) => id)

t.test('what follows a BEGIN that is refused is not run', { skip }, async (t) => {
  const client = await connect(t)
  for (const words of ['not prepared yet', 'prepared'])
    await t.rejects(client.round([{ text: 'begin nonsense', values: [] }, insert(1, words)]), {
      code: '42601',
    })
  t.same(idsOf(await client.round([list])), [])
  await client.round([insert(1)])
  await t.rejects(client.round([{ text: 'begin nonsense', values: [] }, insert(2)]), { code: '42601' })
  t.same(idsOf(await client.round([list])), [1])
})

t.test('nor what follows any other that fails, whose fault is the one that is told', { skip }, async (t) => {
  const client = await connect(t)
  const fails = client.round([insert(1), insert(1), insert('none'), insert(2)])
  await t.rejects(fails, { code: '23505', constraint: 'notes_pkey' })
  t.same(idsOf(await client.round([list])), [], 'without a BEGIN a round is a transaction')
  await client.round([insert(1)])
  t.same(idsOf(await client.round([list])), [1], 'a statement that failed is run again')
  await t.rejects(client.round([insert(1)]), { code: '23505' })
  t.equal((await client.round([insert(2)])).rowCount, 1)
})

t.test('a value that is no text is refused, and the connection is good for the next', { skip }, async (t) => {
  const client = await connect(t)
  for (const value of [new Date(0), Buffer.from('bytes'), ['a', 'list'], { an: 'object' }])
    await t.rejects(client.round([insert(1, value)]), { message: /no text: object/ })
  await t.rejects(client.round([insert(1, 'no\0text')]), { code: '22021' })
  await client.round([insert(1)])
  t.equal(client.isBroken(), false)
})

t.test('an answer that does not come in time breaks the connection', { skip }, async (t) => {
  const client = await connect(t, { query_timeout: 200 })
  const asked = client.round([{ name: 'sleep', text: 'select pg_sleep(60)', values: [] }])
  await t.rejects(asked, { code: 'storage-unavailable' })
  t.equal(client.isBroken(), true)
})

t.test('so does one that is lost where a statement was prepared anew', { skip }, async (t) => {
  const client = await connect(t)
  const text =
    'select pg_terminate_backend(case when id = 1 then pg_backend_pid() end), pg_sleep(60 * id) from notes'
  const asked = { name: 'asked', text, values: [] }
  await client.round([asked])
  await client.round([insert(1)])
  await client.query('deallocate all')
  await t.rejects(client.round([asked]), { code: 'storage-unavailable', message: /57P01/ })
  t.equal(client.isBroken(), true)
})

t.test('what is prepared anew is told its own fault', { skip }, async (t) => {
  const client = await connect(t)
  await client.round([insert(1)])
  await client.query('deallocate all')
  await t.rejects(client.round([insert(1)]), { code: '23505' }, 'not that it was not prepared')
  await client.query('begin')
  await client.round([insert(2)])
  await client.query('deallocate all')
  await t.rejects(client.round([insert(3)]), { code: '26000' }, 'in a transaction that is over why it is')
  await client.query('rollback')
})

t.test('a name that somebody has used in the session is no fault', { skip }, async (t) => {
  const client = await connect(t)
  await client.query('prepare list as select 1 as one') // as a pooler leaves it that discards nothing
  await client.round([insert(1)])
  t.same((await client.round([list])).rows, [{ id: 1, words: null }])
})

t.test('what is prepared again and again is there once, on each connection', { skip }, async (t) => {
  const [client, other] = await connectTwice(t)
  for (let n = 0; n < 20; n += 1) {
    await Promise.all([client.round([list]), other.round([list]), other.round([insert(n)])])
    await client.query('deallocate all')
  }
  const text = 'select name, statement from pg_prepared_statements order by name'
  t.same((await other.round([{ text, values: [] }])).rows, [
    { name: 'insert', statement: insert(0).text },
    { name: 'list', statement: list.text },
  ])
})

t.test('a fault behind rows gives none of them, and the next has its own', { skip }, async (t) => {
  const client = await connect(t)
  const text = 'select n, 60 / (1000 - n) as part from generate_series(1, $1::integer) as n'
  const divide = (to: number) => ({ name: 'divide', text, values: [to] })
  for (const look of ['the first time', 'described before']) {
    const over = client.round([divide(2000)])
    const next = client.round([divide(1)])
    await t.rejects(over, { code: '22012' }, look)
    t.same((await next).rows, [{ n: 1, part: 0 }], look)
  }
})

t.test('what PostgreSQL says between rows is none', { skip }, async (t) => {
  const client = await connect(t)
  await client.query(`create function aloud(n integer) returns integer language plpgsql as $$ begin
    raise warning 'at %', n;
    perform set_config('application_name', 'at ' || n, false), pg_notify('aloud', n::text);
    return n; end $$`)
  await client.query('listen aloud')
  const say = { name: 'say', text: 'select aloud(n) as said from generate_series(1, 3) as n', values: [] }
  const said = [{ said: 1 }, { said: 2 }, { said: 3 }]
  for (const look of ['the first time', 'described before']) {
    const both = await Promise.all([client.round([say]), client.round([list])])
    t.same(
      both.map(({ rows }) => rows),
      [said, []],
      look,
    )
  }
})

t.test('rounds that wait for each other are answered in order', { skip }, async (t) => {
  const client = await connect(t)
  const asked = [insert(1), insert(1), list, insert(2, new Date(0)), insert(2), list]
  const told = await Promise.allSettled(asked.map((part) => client.round([part])))
  t.same(
    told.map((one) => (one.status === 'fulfilled' ? one.value.rows.length : 'refused')),
    [0, 'refused', 1, 'refused', 0, 2],
  )
})

t.test('values and rows are what they were', { skip }, async (t) => {
  const client = await connect(t)
  const long = 'å¼ '.repeat(20_000)
  const words = ['', 'ends', long, "quote ' and \\ backslash", '🦭', null, undefined, true, 7, 2n ** 60n]
  for (const [id, one] of words.entries()) await client.round([insert(id, one)])
  for (const look of ['the first time', 'described before'])
    t.same(
      await client.round([list]),
      {
        command: 'SELECT',
        rowCount: words.length,
        rows: words.map((one, id) => ({ id, words: one == null ? null : `${one}` })),
      },
      look,
    )
  const none = { name: 'none', text: 'select * from notes where id = $1', values: [-1] }
  for (const look of ['the first time', 'described before'])
    t.same((await client.round([none])).rows, [], look)
  t.same((await client.round([{ ...none, values: [1] }])).rows, [{ id: 1, words: 'ends' }])
  t.same(await client.round([{ text: 'delete from notes', values: [] }]), {
    ...{ command: 'DELETE', rowCount: words.length, rows: [] },
  })
})

const ofEachType = `1::int2; '-2147483648'::int4; 9007199254740991::int8; 0.1::float4; 'NaN'::float8; 12.50::numeric; true; false;
  ''::text; 'padded'::char(9); '\\x00ff'::bytea; null; '{"a": [1, null, "\\u00e5"]}'::json; '{"b": 1e30}'::jsonb; 'null'::jsonb;
  '2026-11-22 12:00:00.123456+01'::timestamptz; 'infinity'::timestamptz; '12:30'::time; '4000-01-01 BC'::date; '1 year 0.5 s'::interval;
  '{1,null,3}'::int4[]; '{a,"b,c",null}'::text[]; '{{t,f},{f,t}}'::bool[]; row(1, 'a'); '(1,2)'::point; '10.0.0.0/8'::cidr`

t.test('every type is read as pg reads it', { skip }, async (t) => {
  const client = await connect(t)
  const columns = ofEachType.split(/;\s+/).map((value, at) => `${value} as c${at}`)
  const text = `select ${columns.join()}, 1 as twice, 2 as twice from generate_series(1, 2)`
  const { rows } = (await client.query(text)) as pg.QueryResult
  t.equal(Object.keys(rows[0]).length, 27)
  for (const look of ['the first time', 'described before'])
    t.same((await client.round([{ name: 'types', text, values: [] }])).rows, rows, look)
})

const addNode = statement<{ name: string }>()(
  (_db, value) =>
    sql`insert into chains (name, base_seq, base_hash, head_seq, head_hash) values (${value('name')}, 0, '', 0, '')`,
)

t.test('a transaction begins with its first statement', { skip }, async (t) => {
  const storage = await openStorage(await (await startPostgres()).createDatabase(), { connections: 1 })
  t.teardown(() => storage.close())
  const { db } = storage
  const count = async (): Promise<number> => {
    const { n } = await db
      .selectFrom('chains')
      .select((e) => e.fn.countAll().as('n'))
      .executeTakeFirstOrThrow()
    return Number(n)
  }
  await db.deleteFrom('chains').execute()
  const sent = watch(t)

  await storage.transaction(async () => {})
  const failed = storage.transaction(async () => Promise.reject(new Error('before it asked')))
  await t.rejects(failed, { message: 'before it asked' })
  t.same(sent(), [], 'one that asks nothing is none')

  for (const work of ['one that is prepared', 'one that is not'])
    await t.rejects(
      storage.transaction(async (tx) => {
        if (work === 'one that is prepared') await addNode.change(tx, { name: work })
        else await tx.deleteFrom('chains').execute()
        await addNode.change(tx, { name: `${work}, again` })
        throw new Error('given up')
      }),
      { message: 'given up' },
    )
  t.equal(await count(), 0, 'all of it is undone')

  sent()
  await storage.transaction((tx) => addNode.change(tx, { name: 'first' }))
  t.same(sent().length, 2, 'BEGIN and statement, COMMIT')
  t.equal(await count(), 1)

  const swallowed = storage.transaction(async (tx) => {
    await addNode.change(tx, { name: 'second' })
    await addNode.change(tx, { name: 'second' }).catch(() => {})
  })
  await t.rejects(swallowed, { name: 'AbortedTransactionError' }, 'what was rolled back is not acknowledged')
  t.equal(await count(), 1)

  sent()
  const away = storage.transaction(async (tx) => {
    await addNode.change(tx, { name: 'third' })
    await sql`select pg_terminate_backend(pg_backend_pid())`.execute(tx)
  })
  await t.rejects(away, { code: 'storage-unavailable', message: /57P01/ }, 'what ended it is told')
  t.equal(sent().length, 2, 'and a connection that is lost is not asked to roll back')
  t.equal(await count(), 1)
})

/** What was asked of PostgreSQL since it was called last. */
function watch(t: Test): () => unknown[] {
  const { query } = pg.Client.prototype
  let seen: unknown[] = []
  pg.Client.prototype.query = function (this: pg.Client, ...values: unknown[]): unknown {
    seen.push(values[0])
    return Reflect.apply(query, this, values)
  } as typeof query
  t.teardown(() => {
    pg.Client.prototype.query = query
  })
  return () => {
    const since = seen
    seen = []
    return since
  }
}
