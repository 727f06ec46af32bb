import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import { Kysely, sql } from 'kysely'
import t, { type Test } from 'tap'
import { openStorage, type Storage, type Tx } from '../../src/storage/database.ts'
import { appendEvent } from '../../src/storage/events.ts'
import { openGroupCommit } from '../../src/storage/group-commit.ts'
import { OwnConnection, OwnSqliteDialect, openSqliteFile } from '../../src/storage/sqlite.ts'
import type { Tables } from '../../src/storage/tables.ts'
import { watchStatements } from '../crash/statements.ts'

const folder = mkdtempSync(join(tmpdir(), 'pawl-group-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

// A batch ends by the clock, too. It stands still here: who shares a commit does not depend on how fast this machine is.
const { now } = performance
performance.now = () => 0
t.teardown(() => {
  performance.now = now
})

const run: string[] = []
watchStatements(
  () => {},
  (text) => run.push(text),
)
const commits = (): number => run.filter((text) => text === 'commit').length

const at = '2026-11-21T06:00:00.000Z'
const add = (tx: Tx, name: string, document = 'x'): Promise<unknown> =>
  tx.insertInto('profiles').values({ name, document, revision: 1, created_at: at, updated_at: at }).execute()
const names = async ({ db }: Pick<Storage, 'db'>): Promise<string[]> =>
  (await db.selectFrom('profiles').select('name').orderBy('name').execute()).map(({ name }) => name)

async function open(t: Test, name: string): Promise<{ storage: Storage; file: string }> {
  const file = join(folder, name)
  const storage = await openStorage(file)
  t.teardown(() => storage.close())
  return { storage, file }
}

t.test('one that throws is rolled back alone, and hurts nobody', async (t) => {
  const { storage } = await open(t, 'throws.db')
  const outcomes = await Promise.allSettled([
    storage.transaction(async (tx) => void (await add(tx, 'a'))),
    storage.transaction(async (tx) => {
      await add(tx, 'b')
      throw new RangeError('no')
    }),
    storage.transaction(async (tx) => {
      await add(tx, 'a') // what went before in the batch is there
    }),
    storage.transaction(async (tx) => void (await add(tx, 'c'))),
  ])
  t.same(
    outcomes.map((one) => (one.status === 'fulfilled' ? 'done' : (one.reason as Error).name)),
    ['done', 'RangeError', 'SqliteError', 'done'],
  )
  t.same(await names(storage), ['a', 'c'])
})

t.test('those that wait have one commit, and nobody is answered before it', async (t) => {
  const { storage } = await open(t, 'one.db')
  const before = commits()
  const atAnswer: number[] = []
  await Promise.allSettled(
    Array.from({ length: 20 }, (_, n) =>
      storage
        .transaction(async (tx) => {
          await add(tx, `p${n}`)
          if (n === 7) throw new Error('this one too is told behind the commit')
        })
        .finally(() => atAnswer.push(commits() - before)),
    ),
  )
  t.equal(atAnswer.length, 20)
  t.notOk(atAnswer.includes(0), 'each was answered behind a commit')
  t.ok(commits() - before < 10, `${commits() - before} commits for 20 transactions`)
})

t.test('a batch waits for who comes a turn of the event loop later, and not for nobody', async (t) => {
  const { storage } = await open(t, 'turns.db')
  const begun = (): number => run.filter((text) => text === 'begin immediate').length
  const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  const before = begun()
  const first = storage.transaction((tx) => add(tx, 'first'))
  await nextTurn()
  const second = storage.transaction((tx) => add(tx, 'second'))
  await nextTurn()
  t.equal(begun(), before, 'both wait for one batch')
  await Promise.all([first, second])
  let answered = false
  const alone = storage
    .transaction((tx) => add(tx, 'alone'))
    .then(() => {
      answered = true
    })
  for (let turns = 0; turns < 10 && !answered; turns++) await nextTurn()
  t.ok(answered, 'within ten turns, however short')
  await alone
})

t.test('a batch is bounded: no more than 256 to a commit', async (t) => {
  const { storage } = await open(t, 'bounded.db')
  const before = commits()
  await Promise.all(Array.from({ length: 600 }, () => storage.transaction(async () => {})))
  t.ok(commits() - before >= 3)
})

t.test('a commit that fails fails all of its batch, and the next batch is served', async (t) => {
  const { storage } = await open(t, 'commit.db')
  const outcomes = await Promise.allSettled([
    storage.transaction(async (tx) => void (await add(tx, 'a'))),
    storage.transaction(async (tx) => {
      // A reference that is looked at no sooner than at the commit.
      await sql`pragma defer_foreign_keys = on`.execute(tx)
      await sql`insert into node_macs (mac, node) values ('52:54:00:00:00:01', 'none')`.execute(tx)
    }),
    storage.transaction(async () => {
      throw new RangeError('it saw what the commit undid')
    }),
  ])
  t.same(
    outcomes.map((one) => one.status === 'rejected' && (one.reason as { code?: string }).code),
    Array.from({ length: 3 }, () => 'SQLITE_CONSTRAINT_FOREIGNKEY'),
  )
  t.same(await names(storage), [])
  await storage.transaction((tx) => add(tx, 'b'))
  t.same(await names(storage), ['b'])
})

t.test('a disk that is full in the middle fails all that had begun; nothing goes on behind it', async (t) => {
  const { storage, file } = await open(t, 'full.db')
  const other = new Sqlite(file)
  const pages = other.pragma('page_count', { simple: true })
  other.close()
  await sql`pragma max_page_count = ${sql.lit(Number(pages) + 2)}`.execute(storage.db)
  let wentOn: unknown
  const outcomes = await Promise.allSettled([
    storage.transaction(async (tx) => void (await add(tx, 'a'))),
    storage.transaction(async (tx) => {
      for (let n = 0; n < 50; n++) await add(tx, `b${n}`, 'x'.repeat(4000)).catch(() => {})
      wentOn = await add(tx, 'c').catch((error: { code: string }) => error.code)
    }),
  ])
  t.same(
    outcomes.map((one) => one.status === 'rejected' && (one.reason as { code?: string }).code),
    ['disk-full', 'disk-full'],
  )
  t.equal(wentOn, 'SQLITE_FULL', 'one that does not mind the error is not committed statement by statement')
  t.same(await names(storage), [])
  await sql`pragma max_page_count = 1000000`.execute(storage.db)
  await storage.transaction((tx) => add(tx, 'd'))
  t.same(await names(storage), ['d'])
})

t.test('reads outside of transactions never see what is not committed', async (t) => {
  const { storage } = await open(t, 'reads.db')
  let seen: Promise<string[]> | undefined
  await t.rejects(
    storage.transaction(async (tx) => {
      await add(tx, 'never')
      seen = names(storage)
      await add(tx, 'never-either')
      throw new Error('no')
    }),
    { message: 'no' },
  )
  t.same(await seen, [])
})

t.test('who follows the event log is woken behind the commit', async (t) => {
  const { storage, file } = await open(t, 'wake.db')
  const other = new Sqlite(file, { readonly: true })
  t.teardown(() => other.close())
  const visible: unknown[] = []
  t.teardown(
    storage.wake.subscribe(() => visible.push(other.prepare('select count(*) from events').pluck().get())),
  )
  const event = { kind: 'refused' as const, at: new Date(at), node: 'a', session: null }
  const append = (tx: Tx): Promise<void> =>
    appendEvent(tx, { ...event, actor: 'node', source: null, detail: {} })
  await Promise.allSettled([
    storage.transaction(append),
    storage.transaction(async (tx) => {
      await append(tx)
      throw new Error('no')
    }),
  ])
  t.same([...new Set(visible)], [1])
  t.same(await storage.transaction(async () => 'no event'), 'no event')
  t.equal(visible.length, 1, 'nobody is woken for nothing')
})

t.test('closing waits for what was begun', async (t) => {
  const file = join(folder, 'closing.db')
  const storage = await openStorage(file)
  const written = storage.transaction((tx) => add(tx, 'a'))
  await storage.close()
  await written
  const again = await openStorage(file)
  t.same(await names(again), ['a'])
  await again.close()
})

t.test('who comes as the last batch ends waits for nobody else', async (t) => {
  const connection = new OwnConnection(openSqliteFile(join(folder, 'ends.db'), false))
  const db = new Kysely<Tables>({ dialect: new OwnSqliteDialect(connection) })
  t.teardown(() => db.destroy())
  const group = openGroupCommit<Tables, Tx>(db, connection, false)
  for (let microtasks = 0; microtasks < 6; microtasks++) {
    let done = false
    const first = group.transaction(async () => {})
    const second = (async () => {
      await first
      for (let n = 0; n < microtasks; n++) await undefined
      await group.transaction(async () => {})
      done = true
    })()
    for (let turns = 0; turns < 1000 && !done; turns++)
      await new Promise<void>((resolve) => setImmediate(resolve))
    t.ok(done, `${microtasks} microtasks behind the answer`)
    if (!done) await group.transaction(async () => {})
    await second
  }
})
