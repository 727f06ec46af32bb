import type { Queries } from './database.ts'
import type { ReplicaRow } from './replica-tables.ts'

/** Writes what a server tells of itself. */
export async function writeReplica(db: Queries, row: ReplicaRow): Promise<void> {
  const { id: _, started_at: _started, ...changing } = row
  await db
    .insertInto('replicas')
    .values(row)
    .onConflict((conflict) => conflict.column('id').doUpdateSet(changing))
    .execute()
}

/** The lock is this server's: whatever another said last, it leads no more. */
export async function forgetOtherLeaders(db: Queries, id: string): Promise<void> {
  await db.updateTable('replicas').set({ leads: 0 }).where('leads', '=', 1).where('id', '!=', id).execute()
}

/** Takes out a server that ends. */
export async function removeReplica(db: Queries, id: string): Promise<void> {
  await db.deleteFrom('replicas').where('id', '=', id).execute()
}

/** Takes out those that were not heard of since: they were killed. */
export async function removeReplicasBefore(db: Queries, before: Date): Promise<void> {
  await db.deleteFrom('replicas').where('seen_at', '<', before.toISOString()).execute()
}

/** Those that were heard of since, the oldest first. */
export function listReplicas(db: Queries, since: Date): Promise<ReplicaRow[]> {
  return db
    .selectFrom('replicas')
    .selectAll()
    .where('seen_at', '>=', since.toISOString())
    .orderBy('started_at')
    .orderBy('id')
    .execute()
}
