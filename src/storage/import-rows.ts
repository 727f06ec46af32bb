import { type Kysely, sql } from 'kysely'
import { PawlError } from '../errors.ts'
import { isPostgresUrl, nameOf, openAsItIs, type Storage, type Tx } from './database.ts'
import { appliedMigrations, isPostgres, knownMigrations, migrateToLatest, refuseNewer } from './migrate.ts'
import { ownTables, type Row } from './snapshot.ts'

/** Rows of one table, in the order in which a snapshot gave them. */
export interface RowBatch {
  readonly table: string
  readonly rows: readonly Row[]
}

/** PostgreSQL takes 65,535 parameters in a statement, SQLite 32,766. */
const maxParameters = 30_000

/**
 * Fills an empty database with the rows of a snapshot, under the schema they were taken from, then brings the schema up to
 * date and has `finish` do the rest. Throws `exists` for a database that holds anything, `invalid` for rows that the schema
 * does not take: its constraints are checked like for any other write.
 */
export async function importRows(
  location: string,
  migrations: readonly string[],
  batches: AsyncIterable<RowBatch>,
  finish: (storage: Storage) => Promise<void>,
): Promise<Map<string, number>> {
  refuseNewer(migrations)
  if (migrations.some((name, index) => name !== knownMigrations[index])) {
    throw new PawlError('invalid', 'the backup names schema changes in another order than they were made')
  }
  const storage = openAsItIs(location)
  try {
    await refuseFull(storage, location)
    const db = storage.db as unknown as Kysely<unknown>
    await migrateToLatest(db, { target: migrations.at(-1) })
    // All or nothing: no retry, since the batches can be read once.
    const counts = await storage.db.transaction().execute((tx) => insertAll(tx, batches))
    await migrateToLatest(db)
    await finish(storage)
    return counts
  } finally {
    await storage.close()
  }
}

/** Throws `exists` unless nothing is there: a database that Pawl has never seen, or one that a killed restore had begun. */
async function refuseFull(storage: Storage, location: string): Promise<void> {
  const db = storage.db as unknown as Kysely<unknown>
  const tables = await ownTables(db)
  const applied = await appliedMigrations(db)
  const first = applied.length === 0 ? tables[0] : await firstFull(db, tables)
  if (first === undefined) return
  throw new PawlError(
    'exists',
    `database ${nameOf(location)} is not empty: table ${first} is there${applied.length === 0 ? '' : ' and holds rows'}`,
    {
      hint: isPostgresUrl(location)
        ? 'make a new one with createdb and name it with --database'
        : 'move it away',
    },
  )
}

async function firstFull(db: Kysely<unknown>, tables: readonly string[]): Promise<string | undefined> {
  for (const table of tables) {
    const { rows } = await sql`select 1 from ${sql.table(table)} limit 1`.execute(db)
    if (rows.length > 0) return table
  }
  return undefined
}

async function insertAll(tx: Tx, batches: AsyncIterable<RowBatch>): Promise<Map<string, number>> {
  const db = tx as unknown as Kysely<unknown>
  const columns = await columnsOf(db)
  // A migration may have filled a table: what the snapshot says counts.
  for (const table of [...(await ownTables(db))].reverse())
    await sql`delete from ${sql.table(table)}`.execute(db)
  const counts = new Map<string, number>()
  for await (const { table, rows } of batches) {
    const known = columns.get(table)
    if (known === undefined) throw new PawlError('invalid', `the backup has rows of a table ${quote(table)}`)
    await insert(db, table, known, rows)
    counts.set(table, (counts.get(table) ?? 0) + rows.length)
  }
  if (isPostgres(db)) await continueNumbers(db)
  return counts
}

async function insert(
  db: Kysely<unknown>,
  table: string,
  known: ReadonlySet<string>,
  rows: readonly Row[],
): Promise<void> {
  const names = Object.keys(rows[0] ?? {})
  const stray = names.find((name) => !known.has(name))
  if (stray !== undefined)
    throw new PawlError('invalid', `the backup has a column ${quote(stray)} of ${table}`)
  const own = isPostgres(db) ? sql`overriding system value` : sql``
  const batch = Math.max(1, Math.floor(maxParameters / Math.max(1, names.length)))
  for (let at = 0; at < rows.length; at += batch) {
    const values = rows
      .slice(at, at + batch)
      .map((row) => sql`(${sql.join(names.map((name) => sql.val(row[name] ?? null)))})`)
    await sql`insert into ${sql.table(table)} (${sql.join(names.map((name) => sql.ref(name)))}) ${own}
      values ${sql.join(values)}`
      .execute(db)
      .catch((cause: unknown) => {
        throw new PawlError('invalid', `the database does not take a row of the backup's table ${table}`, {
          hint: cause instanceof Error ? cause.message.slice(0, 200) : 'the backup was edited',
          cause,
        })
      })
  }
}

async function columnsOf(db: Kysely<unknown>): Promise<Map<string, ReadonlySet<string>>> {
  const all = await db.introspection.getTables()
  const own = await ownTables(db)
  return new Map(
    all
      .filter(({ name }) => own.includes(name))
      .map(({ name, columns }) => [name, new Set(columns.map((column) => column.name))]),
  )
}

/** PostgreSQL's own numbers go on behind those that came in. */
async function continueNumbers(db: Kysely<unknown>): Promise<void> {
  const { rows } = await sql<{ table: string; column: string }>`
    select table_name as "table", column_name as "column" from information_schema.columns
    where table_schema = current_schema() and is_identity = 'YES'`.execute(db)
  for (const { table, column } of rows) {
    await sql`select setval(pg_get_serial_sequence(${table}, ${column}),
      (select coalesce(max(${sql.ref(column)}), 0) + 1 from ${sql.table(table)}), false)`.execute(db)
  }
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 100))
}
