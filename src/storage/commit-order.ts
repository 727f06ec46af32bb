import { type RawBuilder, sql } from 'kysely'
import type { Queries, Tx } from './database.ts'
import { statement } from './statement.ts'

/**
 * Who follows the event log asks for "everything with a greater id than the last I saw". SQLite has one writer at a time,
 * so ids become visible in their order. PostgreSQL hands an id out when a row is inserted, and shows the row when its
 * transaction commits: id 7 can be seen while id 5 still waits, and a follower that went on from 7 would never see 5.
 *
 * So every transaction that appends says first, by a shared advisory lock whose key holds the number, from which id on its
 * events can be; PostgreSQL lets go of it behind the commit. A reader takes nothing beyond the lowest number that is held:
 * the ids up to there are settled, none can appear among them any more. Writers do not wait, neither for each other nor
 * for readers; a reader is late by as long as a transaction takes. (A lock around all appends would have done too, at the
 * price of one commit at a time; a column with the transaction's number does not outlive a dump into another cluster.)
 */
const lockClass = 0x5057n
const lockBase = lockClass << 48n

const appending = new WeakSet<Tx>()

/** Keeps in mind that this transaction has its place. */
export function tookPlace(tx: Tx): void {
  appending.add(tx)
}

/** Says that this transaction appends events; before its first one. Costs nothing the second time. */
export async function holdPlace(tx: Tx): Promise<void> {
  if (appending.has(tx)) return
  appending.add(tx)
  if (!isPostgres(tx)) return
  await place.all(tx, {})
}

const place = statement<object>()(() => sql`select ${lockOfPlace()}`)

/** Takes the place where a statement selects it: for one that has another errand there, before the first insert. */
export function lockOfPlace(): RawBuilder<unknown> {
  return sql`pg_advisory_xact_lock_shared(${sql.lit(Number(lockBase >> 32n))}::bigint << 32 | ${lastId()})`
}

/** Whether events were appended in this transaction. */
export function hasAppended(tx: Tx): boolean {
  return appending.has(tx)
}

/**
 * The id up to which events are settled: no event with a smaller one can appear any more. Never goes back. Must not be
 * asked in a transaction that has appended.
 */
export async function settledId(db: Queries): Promise<number> {
  if (!isPostgres(db)) {
    // Not the greatest id that is there: retention may have removed it.
    const last = await sql<{ seq: number }>`select seq from sqlite_sequence where name = 'events'`.execute(db)
    return last.rows[0]?.seq ?? 0
  }
  // In this order: a writer whose lock is not there yet when the second is asked gets its ids behind the first's answer.
  const given = await sql<{ id: number }>`select ${lastId()} as id`.execute(db)
  const held = await sql<{ id: number | null }>`
    select min((classid::bigint & 65535) << 32 | objid::bigint) as id from pg_locks
    where locktype = 'advisory' and objsubid = 1 and classid::bigint >> 16 = ${sql.lit(Number(lockClass))}
      and database = (select oid from pg_database where datname = current_database())`.execute(db)
  return Math.min(Number(given.rows[0]?.id ?? 0), Number(held.rows[0]?.id ?? Number.POSITIVE_INFINITY))
}

/** The greatest id that was handed out, whether or not its transaction lives. */
function lastId(): RawBuilder<number> {
  return sql`(select case when is_called then last_value else 0 end from events_id_seq)`
}

/** Whether there are other writers. */
export function isPostgres(db: Queries): boolean {
  return db.getExecutor().adapter.supportsMultipleConnections === true
}
