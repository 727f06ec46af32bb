import { type Kysely, sql } from 'kysely'
import { PawlError } from '../errors.ts'
import { nameOf, openAsItIs, type Storage } from './database.ts'
import { appliedMigrations, isPostgres, listTables } from './migrate.ts'

/**
 * All rows of a database as they were at one moment, while it is written to. Both databases keep the old state for a
 * transaction that only reads (SQLite by its write-ahead log, PostgreSQL by row versions), so nobody waits for this. The rows
 * are the same on both: what one wrote the other can take in (`import-rows.ts`).
 */
export interface Snapshot {
  readonly dialect: Storage['dialect']
  /** The schema changes that the database has. */
  readonly migrations: readonly string[]
  /** Every table of ours, each behind those that it refers to. */
  readonly tables: readonly string[]
  /** A table's rows, some hundred at a time. */
  rows(table: string): AsyncIterable<readonly Row[]>
  close(): Promise<void>
}

/** One row, by its columns. */
export type Row = Readonly<Record<string, string | number | null>>

const pageSize = 500

/** Opens the database at `location` as it is now. Throws `not-found` where Pawl has made no tables yet. */
export async function openSnapshot(location: string): Promise<Snapshot> {
  const storage = openAsItIs(location, { readOnly: true })
  const begin = storage.db.startTransaction()
  const tx = await (storage.dialect === 'postgres'
    ? begin.setIsolationLevel('repeatable read').setAccessMode('read only')
    : begin
  ).execute()
  const close = async (): Promise<void> => {
    await tx.rollback().execute() // while it holds the connection, closing would wait for ever
    await storage.close()
  }
  try {
    const db = tx as unknown as Kysely<unknown>
    const migrations = await appliedMigrations(db) // the first read: from here on the state stands still
    if (migrations.length === 0) {
      throw new PawlError('not-found', `database ${nameOf(location)} holds no Pawl data`, {
        hint: 'run pawl init, or name the right database with --database',
      })
    }
    const tables = await ownTables(db)
    const rows = storage.dialect === 'postgres' ? byCursor : byRowId
    return { dialect: storage.dialect, migrations, tables, rows: (table) => rows(db, table), close }
  } catch (error) {
    await close()
    throw error
  }
}

/** The tables that hold our rows, each behind those that it refers to: so they can be filled in this order. */
export async function ownTables(db: Kysely<unknown>): Promise<string[]> {
  const tables = (await listTables(db)).filter((name) => !name.startsWith('kysely_'))
  const references = await listReferences(db)
  const ordered: string[] = []
  const place = (table: string, path: readonly string[]): void => {
    if (ordered.includes(table)) return
    if (path.includes(table))
      throw new PawlError('internal', `tables refer to each other: ${path.join(', ')}`)
    for (const { from, to } of references) if (from === table && to !== table) place(to, [...path, table])
    ordered.push(table)
  }
  for (const table of tables) place(table, [])
  return ordered
}

async function listReferences(db: Kysely<unknown>): Promise<{ from: string; to: string }[]> {
  const { rows } = await (isPostgres(db)
    ? sql<{ from: string; to: string }>`
        select a.relname as "from", b.relname as "to" from pg_constraint c
        join pg_class a on a.oid = c.conrelid join pg_class b on b.oid = c.confrelid
        where c.contype = 'f' and c.connamespace = current_schema()::regnamespace`
    : sql<{ from: string; to: string }>`
        select m.name as "from", f."table" as "to" from sqlite_master m, pragma_foreign_key_list(m.name) f
        where m.type = 'table'`
  ).execute(db)
  return rows
}

/** By SQLite's own number of each row. */
async function* byRowId(db: Kysely<unknown>, table: string): AsyncIterable<readonly Row[]> {
  for (let after = 0; ; ) {
    const { rows } = await sql<Row & { rowid_: number }>`
      select rowid as rowid_, * from ${sql.table(table)} where rowid > ${after} order by rowid limit ${pageSize}`.execute(
      db,
    )
    if (rows.length > 0) yield rows.map(({ rowid_: _, ...row }) => row as Row)
    if (rows.length < pageSize) return
    after = rows.at(-1)?.rowid_ ?? after
  }
}

async function* byCursor(db: Kysely<unknown>, table: string): AsyncIterable<readonly Row[]> {
  await sql`declare rows_ no scroll cursor for select * from ${sql.table(table)}`.execute(db)
  for (;;) {
    const { rows } = await sql<Row>`fetch ${sql.raw(String(pageSize))} from rows_`.execute(db)
    if (rows.length > 0) yield rows
    if (rows.length < pageSize) break
  }
  await sql`close rows_`.execute(db)
}
