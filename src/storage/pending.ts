import type { Queries, Tx } from './database.ts'
import type { NodeClaimRow, PendingMachineRow } from './machine-tables.ts'
import { statement } from './statement.ts'

/** Machines that wait for an operator now, or that were turned away; not past their time; the longest waiting first. */
export function listPending(db: Queries, now: Date, rejected: boolean): Promise<PendingMachineRow[]> {
  return db
    .selectFrom('pending_machines')
    .selectAll()
    .where('expires_at', '>', now.toISOString())
    .where('rejected', '=', rejected ? 1 : 0)
    .orderBy('first_seen_at')
    .orderBy('code')
    .execute()
}

/** The row that says that this machine was turned away, if any. */
export function findRejected(
  db: Queries,
  machine: string,
  now: Date,
): Promise<PendingMachineRow | undefined> {
  return db
    .selectFrom('pending_machines')
    .selectAll()
    .where('machine', '=', machine)
    .where('rejected', '=', 1)
    .where('expires_at', '>', now.toISOString())
    .executeTakeFirst()
}

/** Finds a waiting machine by its fingerprint. */
export function findPending(db: Queries, fingerprint: string): Promise<PendingMachineRow | undefined> {
  return db
    .selectFrom('pending_machines')
    .selectAll()
    .where('fingerprint', '=', fingerprint)
    .where('rejected', '=', 0)
    .executeTakeFirst()
}

/** Adds a machine. */
export async function insertPending(tx: Tx, row: PendingMachineRow): Promise<void> {
  await tx.insertInto('pending_machines').values(row).execute()
}

/** Changes columns of a machine. */
export async function updatePending(
  tx: Tx,
  code: string,
  changes: Partial<PendingMachineRow>,
): Promise<void> {
  await tx.updateTable('pending_machines').set(changes).where('code', '=', code).execute()
}

/** Removes machines. */
export async function removePending(tx: Tx, codes: readonly string[]): Promise<void> {
  if (codes.length === 0) return
  await tx.deleteFrom('pending_machines').where('code', 'in', codes).execute()
}

/** Machines that wait, with what decides who makes room: the one last seen the longest ago first. */
export function listForRoom(
  db: Queries,
): Promise<Pick<PendingMachineRow, 'code' | 'machine' | 'source' | 'last_seen_at'>[]> {
  return db
    .selectFrom('pending_machines')
    .select(['code', 'machine', 'source', 'last_seen_at'])
    .where('rejected', '=', 0)
    .orderBy('last_seen_at')
    .orderBy('code')
    .execute()
}

/** Forgets machines and claims whose time is over. */
export async function forgetExpired(tx: Tx, now: Date): Promise<void> {
  await tx.deleteFrom('pending_machines').where('expires_at', '<=', now.toISOString()).execute()
  await tx.deleteFrom('node_claims').where('expires_at', '<=', now.toISOString()).execute()
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

/** Turns a machine away until a time: it is listed no more. Undefined where no such machine waits. */
export function rejectPending(
  tx: Tx,
  code: string,
  now: Date,
  until: Date,
): Promise<PendingMachineRow | undefined> {
  return tx
    .updateTable('pending_machines')
    .set({ rejected: 1, expires_at: until.toISOString() })
    .where('code', '=', code)
    .where('expires_at', '>', now.toISOString())
    .where('rejected', '=', 0)
    .returningAll()
    .executeTakeFirst()
}

/** The claim of a node, if it has one. */
export function findClaim(db: Queries, node: string): Promise<NodeClaimRow | undefined> {
  return db.selectFrom('node_claims').selectAll().where('node', '=', node).executeTakeFirst()
}

/** Leaves a node a claim, in place of the one before. */
export async function putClaim(tx: Tx, row: NodeClaimRow): Promise<void> {
  const { claim_hash, machine, expires_at } = row
  await tx
    .insertInto('node_claims')
    .values(row)
    .onConflict((c) => c.column('node').doUpdateSet({ claim_hash, machine, expires_at }))
    .execute()
}

/** Takes a node's claim away; says whether it had one. */
export async function removeClaim(tx: Tx, node: string): Promise<boolean> {
  return (await dropClaim.change(tx, { node })) > 0
}

const dropClaim = statement<{ node: string }>()((db, value) =>
  db.deleteFrom('node_claims').where('node', '=', value('node')),
)
