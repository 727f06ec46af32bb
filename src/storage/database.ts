import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { Kysely, sql, type Transaction } from 'kysely'
import pg from 'pg'
import { parsePostgresUrl } from '../domain/postgres-url.ts'
import { isPawlError } from '../errors.ts'
import { hasAppended } from './commit-order.ts'
import { type EventWake, openEventWake } from './event-wake.ts'
import { asDemoted, corrupt, explained, unavailable } from './faults.ts'
import { type GroupCommit, openGroupCommit } from './group-commit.ts'
import { checkEventsOf, type DeferredCheck, findDamage, isLarge } from './integrity.ts'
import { alone, type Leadership, standForElection } from './leadership.ts'
import { type MigrateOptions, migrateToLatest } from './migrate.ts'
import { OwnPostgresDialect } from './postgres-dialect.ts'
import { guardPool, type Pool } from './postgres-guard.ts'
import { findPrimary, type Primary } from './postgres-primary.ts'
import { endOfVanished, lookingName, refuseLentSessions } from './postgres-session.ts'
import { isStale } from './prepared.ts'
import { OwnConnection, OwnSqliteDialect, openSqliteFile } from './sqlite.ts'
import type { Tables } from './tables.ts'

/** A connection or a transaction: what queries run on. */
export type Queries = Kysely<Tables>
/** A transaction; inside it nothing waits on anything but the database. */
export type Tx = Transaction<Tables>

/** The open database. */
export interface Storage {
  readonly db: Queries
  readonly dialect: 'sqlite' | 'postgres'
  /**
   * Runs `work` in one transaction; durable when it resolves, without a trace when it throws. PostgreSQL may end one of
   * two that wait for each other: `work` is then run again, so it must keep nothing from a run before.
   */
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>
  /** Tells when events were appended, and carries news between processes. */
  readonly wake: EventWake
  /** Stands for being the one process that does what must be done once; `changed` is told of each change. */
  lead(changed?: (leads: boolean) => void): Leadership
  /** What was not looked at when it was opened; left out: nothing. */
  readonly rest?: DeferredCheck
  close(): Promise<void>
}

/** Opens the database at `location`, a file path or a `postgres://` URL, and brings its schema up to date. */
export async function openStorage(
  location: string,
  options: Omit<OpenOptions, 'readOnly'> & Pick<MigrateOptions, 'onRetry'> = {},
): Promise<Storage> {
  const storage = openAsItIs(location, options)
  try {
    await migrateToLatest(storage.db as Kysely<unknown>, { onRetry: options.onRetry }).catch((e) =>
      Promise.reject(explained(e, nameOf(location))),
    )
  } catch (error) {
    await storage.close()
    throw error
  }
  return storage
}

/** How a database is opened by who looks after it, not by the server. */
export interface OpenOptions {
  /** Nothing can be changed through it, and a file that is not there is not made. */
  readonly readOnly?: boolean
  /** Of PostgreSQL, at one time; SQLite has one. */
  readonly connections?: number
  /** How long one may take to be there and to be free: 5 s, and longer where tests ask by the hundred on slow machines. */
  readonly connectMilliseconds?: number
  /** The events of a large SQLite file are not looked at: its `rest` does that. */
  readonly eventsLater?: boolean
}

/** Opens the database with the schema that it has. */
export function openAsItIs(
  location: string,
  { readOnly = false, eventsLater = false, ...pool }: OpenOptions = {},
): Storage {
  const primary = isPostgresUrl(location) ? findPrimary(location) : undefined
  const { db, group, rest } = primary
    ? openPostgres(primary, location, readOnly, pool)
    : openSqlite(location, readOnly, eventsLater)
  const explain = <T>(work: () => Promise<T>): Promise<T> =>
    work().catch((e) => Promise.reject(explained(e, nameOf(location))))
  const notify = (channel: string, from: string): Promise<unknown> =>
    sql`select pg_notify(${channel}, ${from})`.execute(db)
  const wake = openEventWake(
    primary && !readOnly ? { connection: () => openPostgresClient(primary), notify } : undefined,
  )
  const run: Run = group?.transaction ?? ((work) => db.transaction().execute(work))
  return {
    db,
    dialect: primary ? 'postgres' : 'sqlite',
    transaction: (work) => explain(() => withRetries(() => runOnce(run, work, wake.committed))),
    wake,
    ...(rest === undefined ? {} : { rest }),
    lead: (changed) => (primary ? standForElection(() => openPostgresClient(primary), changed) : alone),
    async close() {
      rest?.stop()
      await wake.close()
      await group?.idle()
      await db.destroy()
    },
  }
}

/** Whether a location is PostgreSQL's; otherwise it is a file of SQLite's. */
export function isPostgresUrl(location: string): boolean {
  return /^postgres(ql)?:\/\//.test(location)
}

/** A location as it may be shown: without its password. */
export function nameOf(location: string): string {
  if (!isPostgresUrl(location)) return location
  // Of what cannot be read, any of its words may be the password.
  return parsePostgresUrl(location)?.shown ?? 'postgres://…'
}

/** Runs work in one transaction of a database. */
type Run = <T>(work: (tx: Tx) => Promise<T>) => Promise<T>

/** One run of a transaction; tells when it has appended events, once they can be seen. */
async function runOnce<T>(run: Run, work: (tx: Tx) => Promise<T>, appended: () => void): Promise<T> {
  let has = false
  const result = await run(async (tx) => {
    const done = await work(tx)
    has = hasAppended(tx)
    return done
  })
  if (has) appended()
  return result
}

const maxTries = 5

/**
 * Runs a transaction again that PostgreSQL ended for no fault of its own: 40001 serialization failure, 40P01 deadlock, or a
 * statement of it was prepared for a schema that has changed.
 */
async function withRetries<T>(run: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await run()
    } catch (error) {
      const code = (error as { code?: unknown } | null)?.code
      if ((code !== '40001' && code !== '40P01' && !isStale(error)) || tries === maxTries) throw error
    }
  }
}

interface Opened {
  readonly db: Queries
  readonly group: GroupCommit<Tx> | undefined
  readonly rest?: DeferredCheck
}

function openSqlite(file: string, readOnly: boolean, eventsLater: boolean): Opened {
  if (!existsSync(dirname(file))) {
    throw unavailable(
      `database ${file} cannot be opened: its folder does not exist`,
      'run pawl init, or name another place',
    )
  }
  try {
    const existed = existsSync(file)
    const sqlite = openSqliteFile(file, readOnly)
    // A page that does not hold what it should is found now, not in the middle of a boot.
    const later = existed && eventsLater && isLarge(sqlite)
    const damage = existed ? findDamage(sqlite, !later) : undefined
    if (damage !== undefined) throw corrupt(file, new Error(damage))
    const rest = checkEventsOf(file, (found) => corrupt(file, new Error(found)))
    const connection = new OwnConnection(sqlite)
    const db = new Kysely<Tables>({ dialect: new OwnSqliteDialect(connection) })
    const group = openGroupCommit<Tables, Tx>(db, connection, readOnly)
    return { db, group, ...(later ? { rest } : {}) }
  } catch (error) {
    throw explained(error, file)
  }
}

/** For a server that is gone without a word: its answer would be waited for until TCP gives up, a quarter of an hour. */
const answerMilliseconds = 20_000

function openPostgres(
  primary: Primary,
  url: string,
  readOnly: boolean,
  { connections = 10, connectMilliseconds = 5000 }: OpenOptions,
): Opened {
  const pool = new pg.Pool({
    Client: primary.Client as never, // pg's types have a class that takes nothing
    connectionString: primary.url,
    max: connections,
    connectionTimeoutMillis: connectMilliseconds,
    keepAlive: true,
    query_timeout: answerMilliseconds,
    onConnect: prepareSessions(primary, nameOf(url), readOnly),
  })
  const explain = (error: unknown): unknown => (readOnly ? error : asDemoted(error, nameOf(url)))
  const guarded = guardPool(
    pool as unknown as Pool, // pg's types have its overloads; it is these
    (error) => explained(explain(error), nameOf(url)),
    (error) => isPawlError(error, 'storage-unavailable'),
  )
  // bigint columns (event ids, byte counts) stay far below 2^53.
  pg.types.setTypeParser(pg.types.builtins.INT8, Number)
  return { db: new Kysely<Tables>({ dialect: new OwnPostgresDialect(guarded) }), group: undefined }
}

/** By statements: poolers refuse most parameters of a connection's beginning, and these are none that they know. */
const sessionSettings = `set statement_timeout = 15000; ${endOfVanished}`
const readOnlySettings = `${sessionSettings}; set default_transaction_read_only = on`

/** Sets each session of a pool; the first finds out beforehand whether sessions are the pool's own. */
function prepareSessions(
  primary: Primary,
  name: string,
  readOnly: boolean,
): (client: pg.ClientBase) => Promise<void> {
  let looked: Promise<void> | undefined
  return async (client) => {
    looked ??= refuseLentSessions(client, () => openPostgresClient(primary, lookingName), name)
    await looked.catch((error: unknown) => {
      looked = undefined // it may be another pooler, or none, when it is asked again
      throw error
    })
    await client.query(readOnly ? readOnlySettings : sessionSettings)
  }
}

/** A connection of its own, for what a pool's cannot do: listen. */
function openPostgresClient({ Client, url }: Primary, applicationName?: string): pg.Client {
  return new Client({
    ...(applicationName === undefined ? {} : { application_name: applicationName }),
    connectionString: url,
    connectionTimeoutMillis: 5000,
    query_timeout: answerMilliseconds,
    keepAlive: true,
  })
}
