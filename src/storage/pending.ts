import type { Queries, Tx } from './database.ts'
import type { PendingMachineRow } from './tables.ts'

/** Machines that wait for an operator now: not past their hour, not turned away; the longest waiting first. */
export function listPending(db: Queries, now: Date): Promise<PendingMachineRow[]> {
  return db
    .selectFrom('pending_machines')
    .selectAll()
    .where('expires_at', '>', now.toISOString())
    .where('rejected', '=', 0)
    .orderBy('first_seen_at')
    .orderBy('code')
    .execute()
}

/**
 * Takes a machine off the list, so that of two operators who approve it at once one gets it. A machine that was
 * turned away can be taken too: an operator may think again.
 */
export function takePending(tx: Tx, code: string, now: Date): Promise<PendingMachineRow | undefined> {
  return tx
    .deleteFrom('pending_machines')
    .where('code', '=', code)
    .where('expires_at', '>', now.toISOString())
    .returningAll()
    .executeTakeFirst()
}

/** Turns a machine away: it keeps its code and is listed no more. Undefined where no such machine waits. */
export function rejectPending(tx: Tx, code: string, now: Date): Promise<PendingMachineRow | undefined> {
  return tx
    .updateTable('pending_machines')
    .set({ rejected: 1 })
    .where('code', '=', code)
    .where('expires_at', '>', now.toISOString())
    .where('rejected', '=', 0)
    .returningAll()
    .executeTakeFirst()
}
