import type { Queries, Tx } from './database.ts'
import type { LeavingRow } from './leaving-tables.ts'

/** Starts one; the database refuses a second of a node that is under way. */
export async function insertLeaving(tx: Tx, row: LeavingRow): Promise<void> {
  await tx.insertInto('leavings').values(row).execute()
}

/** The latest of a node, ended or not. */
export function findLeaving(db: Queries, node: string): Promise<LeavingRow | undefined> {
  return db
    .selectFrom('leavings')
    .selectAll()
    .where('node', '=', node)
    .orderBy('started_at', 'desc')
    .orderBy('id')
    .limit(1)
    .executeTakeFirst()
}

/**
 * Of these nodes, those whose latest is under way, failed, or was taken back and left the node unschedulable: what operators have to know of a
 * node.
 */
export async function findShownLeavings(
  db: Queries,
  nodes: readonly string[],
): Promise<Map<string, LeavingRow>> {
  if (nodes.length === 0) return new Map()
  const rows = await db
    .selectFrom('leavings as one')
    .selectAll()
    .where('node', 'in', nodes)
    .where((e) =>
      e.or([
        e('ended_at', 'is', null),
        e('state', '=', 'failed'),
        e.and([e('state', '=', 'cancelled'), e('cordoned', '=', 1)]),
      ]),
    )
    .where((e) =>
      e.not(
        e.exists(
          e
            .selectFrom('leavings as later')
            .select('later.id')
            .whereRef('later.node', '=', 'one.node')
            .whereRef('later.started_at', '>', 'one.started_at'),
        ),
      ),
    )
    .execute()
  return new Map(rows.map((row) => [row.node, row]))
}

/** Whether nobody has written a step of it since it was read. */
export async function isUnchanged(
  db: Queries,
  { id, passes }: Pick<LeavingRow, 'id' | 'passes'>,
): Promise<boolean> {
  const found = await db.selectFrom('leavings').select('passes').where('id', '=', id).executeTakeFirst()
  return found?.passes === passes
}

/** Those whose next step is due, the longest due first. */
export function listDueLeavings(db: Queries, now: Date, limit: number): Promise<LeavingRow[]> {
  return db
    .selectFrom('leavings')
    .selectAll()
    .where('ended_at', 'is', null)
    .where('next_at', '<=', now.toISOString())
    .orderBy('next_at')
    .limit(limit)
    .execute()
}

/** Writes a step, unless another server or an operator came first: says whether it was written. */
export async function stepLeaving(
  db: Queries,
  { id, passes }: Pick<LeavingRow, 'id' | 'passes'>,
  changes: Partial<Omit<LeavingRow, 'id' | 'passes'>>,
): Promise<boolean> {
  const result = await db
    .updateTable('leavings')
    .set({ ...changes, passes: passes + 1 })
    .where('id', '=', id)
    .where('passes', '=', passes)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** Forgets those that ended before. */
export async function trimLeavings(db: Queries, before: Date): Promise<void> {
  await db.deleteFrom('leavings').where('ended_at', '<', before.toISOString()).execute()
}
