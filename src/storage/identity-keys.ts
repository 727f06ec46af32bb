import type { Queries, Tx } from './database.ts'
import type { IdentityKeyRow } from './node-identity-tables.ts'

/** All keys that are published or were not forgotten yet, the oldest first. */
export function listIdentityKeys(db: Queries): Promise<IdentityKeyRow[]> {
  return db.selectFrom('identity_keys').selectAll().orderBy('generation').execute()
}

/** Adds the first key unless there is one; false where another process was first. */
export async function addFirstIdentityKey(tx: Tx, row: IdentityKeyRow): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('identity_keys')
    .values(row)
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirstOrThrow()
  return numInsertedOrUpdatedRows === 1n
}

/** Adds the next key. Of two that make the same generation the second breaks a unique constraint. */
export async function insertIdentityKey(tx: Tx, row: IdentityKeyRow): Promise<void> {
  await tx.insertInto('identity_keys').values(row).execute()
}

/** Says when the last document under a key ends. */
export async function endIdentityKey(tx: Tx, generation: number, endsAt: string): Promise<void> {
  await tx
    .updateTable('identity_keys')
    .set({ ends_at: endsAt })
    .where('generation', '=', generation)
    .execute()
}

/** Forgets keys before a generation, whatever was signed with them. */
export async function withdrawIdentityKeys(tx: Tx, before: number): Promise<void> {
  await tx.deleteFrom('identity_keys').where('generation', '<', before).execute()
}

/** Forgets keys under which no document is good any more; returns how many. */
export async function forgetIdentityKeys(db: Queries, now: string): Promise<number> {
  const { numDeletedRows } = await db
    .deleteFrom('identity_keys')
    .where('ends_at', '<=', now)
    .executeTakeFirstOrThrow()
  return Number(numDeletedRows)
}
