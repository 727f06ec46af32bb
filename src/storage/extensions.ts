import type { Queries, Tx } from './database.ts'
import type { ExtensionRow } from './extension-tables.ts'

/** Every extension, by name. */
export function listExtensions(db: Queries): Promise<ExtensionRow[]> {
  return db.selectFrom('extensions').selectAll().orderBy('operation').execute()
}

/** Finds an extension by its operation. */
export function findExtension(db: Queries, operation: string): Promise<ExtensionRow | undefined> {
  return db.selectFrom('extensions').selectAll().where('operation', '=', operation).executeTakeFirst()
}

/** Finds an extension, and keeps others from changing it until the transaction ends. */
export function lockExtension(tx: Tx, operation: string): Promise<ExtensionRow | undefined> {
  return tx
    .updateTable('extensions')
    .set((e) => ({ updated_at: e.ref('updated_at') }))
    .where('operation', '=', operation)
    .returningAll()
    .executeTakeFirst()
}

/** Adds an extension. */
export async function insertExtension(tx: Tx, row: ExtensionRow): Promise<void> {
  await tx.insertInto('extensions').values(row).execute()
}

/** Puts an extension in the place of one of the same operation. */
export async function updateExtension(tx: Tx, { operation, ...row }: ExtensionRow): Promise<void> {
  await tx.updateTable('extensions').set(row).where('operation', '=', operation).execute()
}

/** Removes an extension. */
export async function deleteExtension(tx: Tx, operation: string): Promise<void> {
  await tx.deleteFrom('extensions').where('operation', '=', operation).execute()
}

/** Counts that a session asks for an operation once more; answers the how manieth time this is. */
export async function countCall(tx: Tx, session: string, operation: string): Promise<number> {
  const { count } = await tx
    .insertInto('extension_calls')
    .values({ session, operation, count: 1 })
    .onConflict((c) =>
      c.columns(['session', 'operation']).doUpdateSet((e) => ({ count: e('extension_calls.count', '+', 1) })),
    )
    .returning('count')
    .executeTakeFirstOrThrow()
  return count
}
