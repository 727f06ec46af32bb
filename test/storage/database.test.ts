import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import t from 'tap'
import { nameOf, openStorage, type Tx } from '../../src/storage/database.ts'
import { forEachDatabase } from '../helpers/world.ts'

const folder = mkdtempSync(join(tmpdir(), 'pawl-db-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const file = (name: string): string => join(folder, name)

t.test('says which database cannot be used, and what to do', async (t) => {
  writeFileSync(file('text.db'), 'this is not a database, but it is long enough to be looked at\n'.repeat(20))
  await t.rejects(openStorage(file('text.db')), {
    code: 'storage-unavailable',
    message: /text\.db is damaged/,
    hint: /backup/,
  })
  await t.rejects(openStorage(file('none/pawl.db')), {
    code: 'storage-unavailable',
    message: /none\/pawl\.db cannot be opened/,
  })
  const error = await openStorage('postgres://nobody:hunter2@127.0.0.1:1/x').catch((error: unknown) => error)
  t.match(error, {
    code: 'storage-unavailable',
    message: 'database postgres://nobody@127.0.0.1:1/x does not answer (ECONNREFUSED)',
  })
  t.equal(
    nameOf('postgres://nobody@db/x?password=hunter2&sslmode=require'),
    'postgres://nobody@db/x?sslmode=require',
  )
  t.equal(nameOf('postgres://nobody:hunter/2@db/x'), 'postgres://…', 'what is no URL is not shown')
})

t.test('a damaged page is found at start', async (t) => {
  const storage = await openStorage(file('damaged.db'))
  const at = '2026-11-21T06:00:00.000Z'
  for (let i = 0; i < 200; i++) {
    await storage.db
      .insertInto('profiles')
      .values({ name: `p${i}`, document: 'x'.repeat(500), revision: 1, created_at: at, updated_at: at })
      .execute()
  }
  await storage.close()
  execFileSync('dd', [
    'if=/dev/zero',
    `of=${file('damaged.db')}`,
    'bs=4096',
    'seek=10',
    'count=30',
    'conv=notrunc',
    'status=none',
  ])
  await t.rejects(openStorage(file('damaged.db')), {
    code: 'storage-unavailable',
    message: /damaged\.db is damaged/,
  })
})

t.test('a database that another process has locked is said to be so', async (t) => {
  const storage = await openStorage(file('locked.db'))
  const other = new Sqlite(file('locked.db'))
  other.pragma('busy_timeout = 0')
  other.exec('begin immediate')
  const write = storage.transaction((tx) =>
    tx
      .insertInto('chains')
      .values({ name: 'x', base_seq: 0, base_hash: '', head_seq: 0, head_hash: '' })
      .execute(),
  )
  await t.rejects(write, { code: 'storage-unavailable', message: /locked\.db is locked/ })
  other.exec('rollback')
  other.close()
  await storage.close()
})

t.test('a full disk is said to be so, and nothing is half-written', async (t) => {
  const storage = await openStorage(file('full.db'))
  const sqlite = new Sqlite(file('full.db'))
  const pages = sqlite.pragma('page_count', { simple: true })
  sqlite.close()
  // SQLite's own limit stands in for a disk without room: it ends in the same SQLITE_FULL.
  await storage.db.executeQuery({ sql: `pragma max_page_count = ${pages}`, parameters: [] } as never)
  const at = '2026-11-21T06:00:00.000Z'
  const fill = storage.transaction(async (tx) => {
    for (let i = 0; i < 50; i++) {
      await tx
        .insertInto('profiles')
        .values({ name: `p${i}`, document: 'x'.repeat(4000), revision: 1, created_at: at, updated_at: at })
        .execute()
    }
  })
  await t.rejects(fill, { code: 'disk-full', message: /no room left for database .*full\.db/ })
  t.same(await storage.db.selectFrom('profiles').select('name').execute(), [])
  await storage.close()
})

t.test('a used token stays used after a power loss: every commit is synced', async (t) => {
  const storage = await openStorage(file('sync.db'))
  const read = (name: string) =>
    storage.db.executeQuery<Record<string, unknown>>({
      sql: `pragma ${name}`,
      parameters: [],
      query: { kind: 'RawNode' },
      queryId: { queryId: name },
    } as never)
  t.same((await read('synchronous')).rows, [{ synchronous: 2 }])
  t.same((await read('journal_mode')).rows, [{ journal_mode: 'wal' }])
  t.same((await read('foreign_keys')).rows, [{ foreign_keys: 1 }])
  await storage.close()
  chmodSync(file('sync.db'), 0o600)
})

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('two transactions that wait for each other both succeed', async (t) => {
    const { storage } = (await openWorld()).context
    const row = { base_seq: 0, base_hash: '', head_hash: '' }
    await storage.db
      .insertInto('chains')
      .values(['a', 'b'].map((name) => ({ ...row, name, head_seq: 0 })))
      .execute()
    const runs: string[] = []
    let holding = 0
    let met: () => void = () => {}
    const bothBegan = new Promise<void>((resolve) => {
      met = resolve
    })
    const add = (first: string, second: string): Promise<void> =>
      storage.transaction(async (tx) => {
        runs.push(first)
        await count(tx, first)
        holding += 1
        // Only PostgreSQL lets two begin: there each now holds what the other wants.
        if (holding >= 2 || storage.dialect === 'sqlite') met()
        await bothBegan
        await count(tx, second)
      })
    const count = (tx: Tx, name: string): Promise<unknown> =>
      tx
        .updateTable('chains')
        .set((e) => ({ head_seq: e('head_seq', '+', 1) }))
        .where('name', '=', name)
        .execute()
    await Promise.all([add('a', 'b'), add('b', 'a')])
    t.same(
      (await storage.db.selectFrom('chains').select('head_seq').execute()).map((r) => r.head_seq),
      [2, 2],
    )
    t.equal(runs.length, storage.dialect === 'postgres' ? 3 : 2, 'on PostgreSQL one of them ran again')
    await storage.db.deleteFrom('chains').execute()
  })
})
