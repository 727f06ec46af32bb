import { setTimeout } from 'node:timers/promises'
import { type Kysely, sql } from 'kysely'
import { type Migration, type MigrationResultSet, Migrator } from 'kysely/migration'
import { PawlError } from '../errors.ts'
import * as first from './migrations/0001-first.ts'
import * as publishers from './migrations/0002-publishers.ts'
import * as channels from './migrations/0003-channels.ts'
import * as api from './migrations/0004-api.ts'
import * as identity from './migrations/0005-identity.ts'
import * as fleetFiles from './migrations/0006-fleet-files.ts'
import * as machines from './migrations/0007-machines.ts'
import * as audit from './migrations/0008-audit.ts'
import * as webhooks from './migrations/0009-webhooks.ts'
import * as secrets from './migrations/0010-secrets.ts'
import * as nodeCertificates from './migrations/0011-node-certificates.ts'
import * as roots from './migrations/0012-roots.ts'
import * as ticketKeys from './migrations/0013-ticket-keys.ts'
import * as processes from './migrations/0014-processes.ts'
import * as indexes from './migrations/0015-indexes.ts'
import * as usualTimes from './migrations/0017-usual-times.ts'
import * as sessionSpans from './migrations/0018-session-spans.ts'
import * as traceCursor from './migrations/0019-trace-cursor.ts'
import * as joinCredentials from './migrations/0020-join-credentials.ts'
import * as identityKeys from './migrations/0021-identity-keys.ts'
import * as joinSeeds from './migrations/0022-join-seeds.ts'
import * as leaving from './migrations/0023-leaving.ts'
import * as extensions from './migrations/0024-extensions.ts'
import * as nodeKeys from './migrations/0025-node-keys.ts'
import * as fleetExtensions from './migrations/0026-fleet-extensions.ts'
import * as fewerIndexes from './migrations/0027-fewer-indexes.ts'

/** Every schema change in order. Small and additive: a server of the version before must go on working. */
const migrations: Readonly<Record<string, Migration>> = {
  '0001-first': first,
  '0002-publishers': publishers,
  '0003-channels': channels,
  '0004-api': api,
  '0005-identity': identity,
  '0007-machines': machines,
  '0006-fleet-files': fleetFiles,
  '0008-audit': audit,
  '0009-webhooks': webhooks,
  '0010-secrets': secrets,
  '0011-node-certificates': nodeCertificates,
  '0012-roots': roots,
  '0013-ticket-keys': ticketKeys,
  '0014-processes': processes,
  '0015-indexes': indexes,
  '0017-usual-times': usualTimes,
  '0018-session-spans': sessionSpans,
  '0019-trace-cursor': traceCursor,
  '0021-identity-keys': identityKeys,
  '0020-join-credentials': joinCredentials,
  '0022-join-seeds': joinSeeds,
  '0023-leaving': leaving,
  '0024-extensions': extensions,
  '0025-node-keys': nodeKeys,
  '0026-fleet-extensions': fleetExtensions,
  '0027-fewer-indexes': fewerIndexes,
}

/** The last schema change of each release before this one: how far `pawl database downgrade` can go back. */
export const releases: Readonly<Record<string, string>> = {
  '0.2.0': '0009-webhooks',
  '0.3.0': '0012-roots',
  '0.4.0': '0024-extensions',
  '0.5.0': '0026-fleet-extensions',
}

/** The names of all schema changes that this version knows, in order. */
export const knownMigrations: readonly string[] = Object.keys(migrations).sort()

/** A try that was taken back for the sake of another process, and is made again. */
export interface MigrationRetry {
  /** Which try it was, and how many there are. */
  readonly tries: number
  readonly of: number
  /** PostgreSQL's code for what happened. */
  readonly code: string
}

/** How the schema is brought up to date. */
export interface MigrateOptions {
  /** The last change to make; left out, the newest. */
  readonly target?: string | undefined
  readonly onRetry?: ((retry: MigrationRetry) => void) | undefined
  /** How long one table is waited for, and how long nothing is done behind a try that failed. */
  readonly lockMilliseconds?: number
  readonly pauseMilliseconds?: number
}

const maxTries = 10

/**
 * Brings the database to the newest schema, or to that of one change. Safe to run by several processes at once: Kysely
 * takes a lock. All of it is one transaction, so that a server killed in an upgrade leaves the schema of before.
 *
 * On PostgreSQL a server of the release before may go on meanwhile. A change that waits for a table lets nobody else at it, so it does not
 * wait long; and the two may wait for each other. Then it is taken back, and tried again some times.
 */
export async function migrateToLatest(db: Kysely<unknown>, options: MigrateOptions = {}): Promise<void> {
  const { onRetry, pauseMilliseconds = 500 } = options
  refuseNewer(await appliedMigrations(db))
  for (let tries = 1; ; tries++) {
    const { error, results } = isPostgres(db)
      ? await withLockTimeout(db, options.lockMilliseconds ?? 2000, (own) => migrateOnce(own, options.target))
      : await migrateOnce(db, options.target)
    if (error === undefined) return
    const code = retryCodeOf(error, results === undefined)
    if (code === undefined || tries === maxTries) throw notUpToDate(error, code !== undefined)
    onRetry?.({ tries, of: maxTries, code })
    await setTimeout(pauseMilliseconds)
  }
}

function migrateOnce(db: Kysely<unknown>, target: string | undefined): Promise<MigrationResultSet> {
  const migrator = new Migrator({ db, provider: { getMigrations: async () => migrations } })
  return target === undefined ? migrator.migrateToLatest() : migrator.migrateTo(target)
}

/** Runs work on one connection whose statements wait no longer for a lock. Kysely's own, by which one process migrates, has another bound. */
function withLockTimeout<T>(
  db: Kysely<unknown>,
  milliseconds: number,
  work: (own: Kysely<unknown>) => Promise<T>,
): Promise<T> {
  return db.connection().execute(async (own) => {
    await sql`set lock_timeout = ${sql.lit(milliseconds)}`.execute(own)
    try {
      return await work(own)
    } finally {
      await sql`reset lock_timeout`.execute(own).catch(() => {}) // a connection that broke is not used again
    }
  })
}

/**
 * PostgreSQL's code where another process was in the way: 40P01 deadlock, 40001 serialization failure, 55P03 a lock that was not to
 * be had; and before a change was begun 57014, for one that migrates for longer than a statement may take.
 */
function retryCodeOf(error: unknown, beforeAnyChange: boolean): string | undefined {
  const { code, cause } = error as { code?: unknown; cause?: unknown }
  const known = ['40P01', '40001', '55P03', ...(beforeAnyChange ? ['57014'] : [])]
  if (typeof code === 'string' && known.includes(code)) return code
  return cause instanceof Error ? retryCodeOf(cause, beforeAnyChange) : undefined
}

function notUpToDate(cause: unknown, othersWereInTheWay: boolean): PawlError {
  const hint = othersWereInTheWay
    ? `others used the tables that it changes, at each of ${maxTries} tries: stop what else uses the database, and start again; nothing of it was changed`
    : 'look at the log; nothing of it was changed'
  return new PawlError('storage-unavailable', 'the database schema cannot be brought up to date', {
    hint,
    cause,
  })
}

/** The schema changes that a database has, in order; none for one that is empty. */
export async function appliedMigrations(db: Kysely<unknown>): Promise<string[]> {
  const { rows } = await tableNames(db)
  if (!rows.some(({ name }) => name === 'kysely_migration')) return []
  const applied = await sql<{ name: string }>`select name from kysely_migration order by name`.execute(db)
  return applied.rows.map(({ name }) => name)
}

/** Throws `storage-unavailable` for a database whose schema this version does not know: another Pawl made it. */
export function refuseNewer(applied: readonly string[]): void {
  const unknown = applied.find((name) => !knownMigrations.includes(name))
  if (unknown === undefined) return
  throw new PawlError(
    'storage-unavailable',
    `the database was made by a newer Pawl: it has the schema change ${unknown}, and this Pawl knows those up to ${knownMigrations.at(-1)}`,
    {
      hint: 'run the newer Pawl (its "pawl database downgrade" goes back), or restore a backup that this one made',
    },
  )
}

/** Takes back the schema changes behind `target`, the last one first. Runs in the caller's transaction. */
export async function migrateDown(tx: Kysely<unknown>, target: string): Promise<string[]> {
  const applied = await appliedMigrations(tx)
  refuseNewer(applied)
  const undone = applied.filter((name) => name > target).reverse()
  for (const name of undone) {
    const down = migrations[name]?.down
    if (down === undefined) throw new PawlError('conflict', `schema change ${name} cannot be taken back`)
    await down(tx)
    await sql`delete from kysely_migration where name = ${name}`.execute(tx)
  }
  return undone
}

/** The tables of the database, Kysely's own too. */
export async function listTables(db: Kysely<unknown>): Promise<string[]> {
  return (await tableNames(db)).rows.map(({ name }) => name).sort()
}

function tableNames(db: Kysely<unknown>): Promise<{ rows: { name: string }[] }> {
  return isPostgres(db)
    ? sql<{
        name: string
      }>`select tablename as name from pg_tables where schemaname = current_schema()`.execute(db)
    : sql<{
        name: string
      }>`select name from sqlite_master where type = 'table' and name not like 'sqlite@_%' escape '@'`.execute(
        db,
      )
}

/** Which of the two this is, by what only one of them can do. */
export function isPostgres(db: Kysely<unknown>): boolean {
  return db.getExecutor().adapter.supportsMultipleConnections === true
}
