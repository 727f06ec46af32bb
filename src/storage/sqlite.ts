import Sqlite from 'better-sqlite3'
import {
  type CompiledQuery,
  type DatabaseConnection,
  type DialectAdapter,
  type Driver,
  type Kysely,
  type MigrationLockOptions,
  type QueryResult,
  SqliteAdapter,
  SqliteDialect,
  SqliteDriver,
  sql,
} from 'kysely'

/**
 * SQLite as Kysely sees it. What is ours: statements are prepared once for each text, a transaction can be a savepoint of a batch
 * (group-commit.ts), and a transaction that SQLite itself has rolled back takes no further statement.
 */
export class OwnSqliteDialect extends SqliteDialect {
  readonly #connection: OwnConnection

  constructor(connection: OwnConnection) {
    super({ database: connection.sqlite })
    this.#connection = connection
  }

  override createAdapter(): DialectAdapter {
    return new OwnSqliteAdapter(this.#connection)
  }

  override createDriver(): Driver {
    return new OwnDriver(this.#connection)
  }
}

/** So many statements are kept prepared; the whole server has about three hundred. */
const maxPrepared = 1000

/** Statements that neither change the schema nor end a transaction: what is prepared before them stays good. */
const keepable = /^\s*(select|insert|update|delete|with)\b/i

/** What a statement gave: rows, or what it changed. */
type Answered =
  | { readonly rows: unknown[]; readonly changes?: undefined; readonly lastInsertRowid?: undefined }
  | { readonly rows: unknown[]; readonly changes: number; readonly lastInsertRowid: number | bigint }

/** The one connection to a database file. */
export class OwnConnection implements DatabaseConnection {
  readonly sqlite: Sqlite.Database
  /** Set while a batch is open: transactions are savepoints then. */
  batch = false
  /** The transaction of a batch that runs now: it alone may use the connection without waiting for its turn. */
  turn: unknown
  readonly #prepared = new Map<string, Sqlite.Statement>()
  #inside = false
  #endedBy: unknown
  #watch: { left: number; readonly call: () => void } | undefined

  constructor(sqlite: Sqlite.Database) {
    this.sqlite = sqlite
  }

  /** Calls once, after so many more statements. */
  after(statements: number, call: () => void): void {
    this.#watch = { left: statements, call }
  }

  begin(): void {
    this.run(this.batch ? 'savepoint work' : 'begin')
    this.#inside = true
    this.#endedBy = undefined
  }

  commit(): void {
    this.#noteEnded()
    this.#refuseEnded()
    this.run(this.batch ? 'release work' : 'commit')
    this.#inside = false
  }

  /** SQLite itself rolls back on a full disk or an I/O error; another rollback would hide that error by one of its own. */
  rollback(): void {
    this.#inside = false
    if (!this.sqlite.inTransaction) return
    this.run(this.batch ? 'rollback to work' : 'rollback')
    if (this.batch) this.run('release work')
  }

  /** Runs a statement that has no parameters and gives no rows. */
  run(text: string): void {
    this.#prepare(text, true).run()
  }

  async executeQuery<R>({ sql: text, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const { rows, changes, lastInsertRowid } = this.query(text, parameters, keepable.test(text))
    if (changes === undefined) return { rows: rows as R[] }
    return { insertId: BigInt(lastInsertRowid), numAffectedRows: BigInt(changes), rows: [] }
  }

  /** Runs a statement at once; `keep` says that it neither changes the schema nor ends a transaction. */
  query(text: string, parameters: readonly unknown[], keep = true): Answered {
    this.#refuseEnded()
    if (this.#watch !== undefined && --this.#watch.left <= 0) this.#watch.call()
    try {
      const statement = this.#prepare(text, keep)
      if (statement.reader) return { rows: statement.all(parameters) }
      const { changes, lastInsertRowid } = statement.run(parameters)
      if (!keep) {
        this.#prepared.clear()
        this.#noteEnded()
      }
      return { rows: [], changes, lastInsertRowid }
    } catch (error) {
      this.#noteEnded(error)
      throw error
    }
  }

  async *streamQuery<R>({ sql: text, parameters }: CompiledQuery): AsyncIterableIterator<QueryResult<R>> {
    // Not one of those that are kept: it is open until its last row was read.
    for (const row of this.sqlite.prepare(text).iterate(parameters)) yield { rows: [row as R] }
  }

  /** What is run behind an automatic rollback would be committed by itself, one statement at a time. */
  #refuseEnded(): void {
    if (this.#inside && this.#endedBy !== undefined) throw this.#endedBy
  }

  /** Asked where it can have ended, which is cheaper than before each statement: by one that failed, or that is none of those that are kept. */
  #noteEnded(error?: unknown): void {
    if (this.#inside && !this.sqlite.inTransaction)
      this.#endedBy ??= error ?? new Error('the transaction is over')
  }

  #prepare(text: string, keep: boolean): Sqlite.Statement {
    const known = this.#prepared.get(text)
    if (known !== undefined) return known
    const statement = this.sqlite.prepare(text)
    if (!keep) return statement
    if (this.#prepared.size >= maxPrepared) this.#prepared.clear()
    this.#prepared.set(text, statement)
    return statement
  }
}

class OwnDriver extends SqliteDriver {
  readonly #connection: OwnConnection

  constructor(connection: OwnConnection) {
    super({ database: connection.sqlite })
    this.#connection = connection
  }

  override async init(): Promise<void> {}

  override async acquireConnection(): Promise<DatabaseConnection> {
    return this.#connection
  }

  override async beginTransaction(): Promise<void> {
    this.#connection.begin()
  }

  override async commitTransaction(): Promise<void> {
    this.#connection.commit()
  }

  override async rollbackTransaction(): Promise<void> {
    this.#connection.rollback()
  }

  override async destroy(): Promise<void> {
    this.#connection.sqlite.close()
  }
}

/** SQLite's schema changes are part of its transactions; Kysely does not make use of it by itself. */
export class OwnSqliteAdapter extends SqliteAdapter {
  readonly connection: OwnConnection

  constructor(connection: OwnConnection) {
    super()
    this.connection = connection
  }

  override get supportsTransactionalDdl(): boolean {
    return true
  }

  /** A transaction that begins by reading could not go on to write when another process does the same. */
  override async acquireMigrationLock(
    db: Kysely<unknown>,
    { lockTable }: MigrationLockOptions,
  ): Promise<void> {
    await sql`update ${sql.table(lockTable)} set is_locked = is_locked`.execute(db)
  }
}

/** Opens a file with the settings that every connection has. */
export function openSqliteFile(file: string, readOnly: boolean): Sqlite.Database {
  const sqlite = new Sqlite(file, readOnly ? { readonly: true } : {})
  if (!readOnly) {
    sqlite.pragma('journal_mode = WAL')
    // WAL defaults to NORMAL here: after a power loss, a used token would be unused again.
    sqlite.pragma('synchronous = FULL')
    // Each transaction of a batch is a savepoint, and SQLite copies every page it changes for the case that it is undone: by default
    // into files of /var/tmp, four times as many writes as the boot itself takes.
    sqlite.pragma('temp_store = MEMORY')
  }
  sqlite.pragma('foreign_keys = ON')
  sqlite.pragma('busy_timeout = 5000')
  return sqlite
}
