import { mkdtempSync, rmSync } from 'node:fs'
import { connect as connectTo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { openStorage, type Queries, type Storage } from '../../src/storage/database.ts'
import { statement } from '../../src/storage/statement.ts'
import { postgresAbsent, startPostgres } from '../helpers/postgres.ts'

const skip = process.env.PAWL_REQUIRE === 'all' ? false : (postgresAbsent() ?? false)

const insert = statement<{ name: unknown; seq: unknown }>()(
  (_db, value) =>
    sql`insert into chains (name, base_seq, base_hash, head_seq, head_hash) values (${value('name')}, 0, '', ${value('seq')}, '')`,
)
const add = (tx: Queries, name: unknown, seq: unknown = 0): Promise<number> =>
  insert.change(tx, { name, seq })

async function namesOf({ db }: Storage): Promise<string[]> {
  const rows = await db.selectFrom('chains').select('name').orderBy('name').execute()
  return rows.map(({ name }) => name)
}

const texts = {
  'no table': 'select * from no_such_table',
  cancelled: 'select pg_cancel_backend(pg_backend_pid()), pg_sleep(60)',
  'not serializable': "do $$ begin raise exception using errcode = '40001'; end $$",
  deadlock: "do $$ begin raise exception using errcode = '40P01'; end $$",
  stale: "do $$ begin raise exception using errcode = '26000'; end $$",
  terminated: 'select pg_terminate_backend(pg_backend_pid()), pg_sleep(60)',
}
const fails = Object.fromEntries(
  Object.entries(texts).map(([name, text]) => [name, statement<object>()(() => sql.raw(text))]),
)
const asked = (name: keyof typeof texts) => (tx: Queries) => fails[name]?.all(tx, {})

interface Fault {
  readonly fail: (tx: Queries) => Promise<unknown> | undefined
  readonly told: { readonly code: string; readonly message?: RegExp }
  /** How often the transaction is run; left out: once. */
  readonly runs?: number
}

const faults: Readonly<Record<string, Fault>> = {
  'a constraint': { fail: (tx) => add(tx, 'there before'), told: { code: '23505' } },
  'a wrong value': { fail: (tx) => add(tx, 'x', 'no number'), told: { code: '22P02' } },
  'a byte that is in no text': { fail: (tx) => add(tx, 'x\0y'), told: { code: '22021' } },
  'a table that is not there': { fail: asked('no table'), told: { code: '42P01' } },
  'what was cancelled': { fail: asked('cancelled'), told: { code: 'storage-unavailable', message: /57014/ } },
  'a session that was ended': { fail: asked('terminated'), told: { code: 'storage-unavailable' } },
  'no serial order': { fail: asked('not serializable'), told: { code: '40001' }, runs: 5 },
  'a deadlock': { fail: asked('deadlock'), told: { code: '40P01' }, runs: 5 },
  'what is not prepared any more': { fail: asked('stale'), told: { code: '26000' }, runs: 5 },
}

t.test('what fails in a transaction leaves nothing of it, and nobody else in it', { skip }, async (t) => {
  const url = await (await startPostgres()).createDatabase()
  const storage = await openStorage(url, { connections: 1 })
  const other = await openStorage(url, { connections: 1 })
  t.teardown(() => Promise.all([storage.close(), other.close()]))
  await storage.db.deleteFrom('chains').execute()
  await add(storage.db, 'there before')

  const before: Readonly<Record<string, (tx: Queries) => Promise<unknown>>> = {
    'as its first statement': async () => {},
    'behind one that is prepared': (tx) => add(tx, 'lost'),
    'behind one that is not': (tx) => tx.deleteFrom('chains').where('name', '=', 'none').execute(),
  }
  for (const [what, { fail, told, runs: expected = 1 }] of Object.entries(faults))
    for (const [where, begin] of Object.entries(before)) {
      const name = `${what}, ${where}`
      let runs = 0
      const failed = storage.transaction(async (tx) => {
        runs += 1
        await begin(tx)
        await fail(tx)
      })
      await t.rejects(failed, told, name)
      t.equal(runs, expected, `${name}: runs`)
      const swallowed = storage.transaction(async (tx) => {
        await begin(tx)
        await fail(tx)?.catch(() => {})
        await add(tx, 'behind the fault').catch(() => {})
      })
      await t.rejects(swallowed, `${name}: a commit that was none is not acknowledged`)
      await add(storage.db, 'next')
      t.same(await namesOf(other), ['next', 'there before'], `${name}: who comes next is in no transaction`)
      await storage.db.deleteFrom('chains').where('name', '=', 'next').execute()
    }
})

t.test('what fails with its BEGIN takes along all that was asked in it', { skip }, async (t) => {
  const url = await (await startPostgres()).createDatabase()
  const storage = await openStorage(url, { connections: 1 })
  t.teardown(() => storage.close())
  await storage.db.deleteFrom('chains').execute()
  const unsent = { message: /no text: object/ }

  const swallowed = storage.transaction(async (tx) => {
    await t.rejects(add(tx, 'first', new Date(0)), unsent, 'no BEGIN was sent either')
    await t.rejects(add(tx, 'second'), unsent, 'so what follows would be in no transaction')
    await t.rejects(tx.deleteFrom('nodes').execute(), unsent)
  })
  await t.rejects(swallowed, unsent, 'nor is it acknowledged')
  const atOnce = storage.transaction(async (tx) => {
    await Promise.allSettled([add(tx, 'first', new Date(0)), add(tx, 'at once')])
    throw new Error('given up')
  })
  await t.rejects(atOnce, { message: 'given up' })
  t.same(await namesOf(storage), [])

  await storage.transaction(async (tx) => {
    await Promise.all([tx.insertInto('chains').values(row('a')).execute(), add(tx, 'b')])
    await t.rejects(add(tx, 'later', new Date(0)), unsent)
  })
  t.same(await namesOf(storage), ['a', 'b'], 'what never left is no matter of one that has begun')
})

const row = (name: string) => ({ name, base_seq: 0, base_hash: '', head_seq: 0, head_hash: '' })

/** Stands before a PostgreSQL, and breaks what commits: before it was told, or before its answer is. */
async function startBreaker(
  t: Test,
  url: string,
): Promise<{ url: string; loses: 'nothing' | 'commit' | 'answer' }> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-breaker-'))
  const behind = new URL(url).searchParams.get('host') ?? ''
  const breaker = { url: url.replace(behind, folder), loses: 'nothing' as 'nothing' | 'commit' | 'answer' }
  const server = createServer((client) => {
    const to = connectTo(join(behind, '.s.PGSQL.5432'))
    const end = (): void => {
      client.destroy()
      to.destroy()
    }
    let deaf = false
    client.on('data', (bytes) => {
      const commits = bytes.includes('commit\0')
      if (commits && breaker.loses === 'commit') return end()
      deaf ||= commits && breaker.loses === 'answer'
      to.write(bytes)
    })
    to.on('data', (bytes) => (deaf ? end() : client.write(bytes)))
    for (const socket of [client, to]) socket.on('error', end).on('close', end)
  })
  await new Promise<void>((resolve) => server.listen(join(folder, '.s.PGSQL.5432'), resolve))
  t.teardown(() => {
    server.close()
    rmSync(folder, { recursive: true, force: true })
  })
  return breaker
}

t.test('a COMMIT of which nobody knows is not acknowledged, and not run again', { skip }, async (t) => {
  const url = await (await startPostgres()).createDatabase()
  const breaker = await startBreaker(t, url)
  const storage = await openStorage(breaker.url, { connections: 1 })
  t.teardown(() => storage.close())
  await storage.db.deleteFrom('chains').execute()
  const seen: string[] = []
  for (const loses of ['commit', 'answer', 'nothing'] as const) {
    let runs = 0
    breaker.loses = loses
    const changed = storage.transaction(async (tx) => {
      runs += 1
      await add(tx, `lost: ${loses}`)
    })
    if (loses === 'nothing') await changed
    else await t.rejects(changed, { code: 'storage-unavailable', message: /its connection broke/ }, loses)
    t.equal(runs, 1, loses)
    if (loses !== 'commit') seen.push(`lost: ${loses}`)
    t.same(await namesOf(storage), seen, `${loses}: the next has another connection`)
  }
})

t.test('who waits too long for a connection is told so, and nobody else', { skip }, async (t) => {
  const url = await (await startPostgres()).createDatabase()
  const storage = await openStorage(url, { connections: 1 })
  t.teardown(() => storage.close())
  await storage.db.deleteFrom('chains').execute()
  await storage.transaction(async (tx) => {
    await add(tx, 'first')
    const late = storage.transaction((own) => add(own, 'late'))
    await t.rejects(late, { code: 'storage-unavailable', message: /no connection was free in time/ })
    await add(tx, 'second')
  })
  await add(storage.db, 'third')
  t.same(await namesOf(storage), ['first', 'second', 'third'])
})
