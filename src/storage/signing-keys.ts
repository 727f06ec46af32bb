import type { Queries, Tx } from './database.ts'
import type { SigningKeyRow } from './signing-key-tables.ts'

/** Whose keys. */
export type SigningKeyTable = 'identity_keys' | 'extension_keys'

/** All keys that were not forgotten yet, the newest first. */
export function listSigningKeys(db: Queries, table: SigningKeyTable): Promise<SigningKeyRow[]> {
  return db.selectFrom(table).selectAll().orderBy('generation', 'desc').execute()
}

/** Adds a key unless its generation has one: false where another process was first. */
export async function addSigningKey(tx: Tx, table: SigningKeyTable, row: SigningKeyRow): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto(table)
    .values(row)
    .onConflict((conflict) => conflict.column('generation').doNothing())
    .executeTakeFirstOrThrow()
  return numInsertedOrUpdatedRows === 1n
}

/** Says until when the keys before a generation are published: no longer than they were to be. */
export async function endSigningKeys(
  tx: Tx,
  table: SigningKeyTable,
  before: number,
  at: string,
): Promise<void> {
  await tx
    .updateTable(table)
    .set({ ends_at: at })
    .where('generation', '<', before)
    .where((e) => e.or([e('ends_at', 'is', null), e('ends_at', '>', at)]))
    .execute()
}

/** Forgets the keys before a generation, whatever was signed with them. */
export async function withdrawSigningKeys(tx: Tx, table: SigningKeyTable, before: number): Promise<void> {
  await tx.deleteFrom(table).where('generation', '<', before).execute()
}

/** Forgets the keys that are published no longer. */
export async function forgetSigningKeys(db: Queries, table: SigningKeyTable, now: string): Promise<void> {
  await db.deleteFrom(table).where('ends_at', '<=', now).execute()
}
