import type { Queries, Tx } from './database.ts'
import type { ImageRow } from './tables.ts'

/** Every published image version, by name, the newest of each first. */
export function listImages(db: Queries): Promise<ImageRow[]> {
  return db
    .selectFrom('images')
    .selectAll()
    .orderBy('name')
    .orderBy('created_at', 'desc')
    .orderBy('version')
    .execute()
}

/** Adds an image version where there is none of its name; says whether it did. Never replaces one. */
export async function insertImage(tx: Tx, row: ImageRow): Promise<boolean> {
  const result = await tx
    .insertInto('images')
    .values(row)
    .onConflict((c) => c.doNothing())
    .executeTakeFirst()
  return result.numInsertedOrUpdatedRows === 1n
}
