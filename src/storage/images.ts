import type { Manifest } from '../domain/image.ts'
import type { Queries, Storage, Tx } from './database.ts'
import { findImage } from './fleet.ts'
import type { ImageArtifactRow, PrunedImageRow } from './image-tables.ts'
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
  if (result.numInsertedOrUpdatedRows !== 1n) return false
  const { name, version } = row
  const { artifacts } = JSON.parse(row.manifest) as Pick<Manifest, 'artifacts'> // checked where it was published
  await tx
    .insertInto('image_artifacts')
    .values(artifacts.map(({ role, digest, size }) => ({ name, version, role, digest, size })))
    .execute()
  return true
}

/** Which image versions hold an artifact, and as what. */
export function listHolders(db: Queries, digest: string): Promise<ImageArtifactRow[]> {
  return db.selectFrom('image_artifacts').selectAll().where('digest', '=', digest).execute()
}

/** Finds image versions that may be removed, and keeps others from beginning to use them. */
export async function lockImages(
  tx: Tx,
  dialect: Storage['dialect'],
  refs: readonly { readonly name: string; readonly version: string }[],
): Promise<void> {
  if (dialect !== 'postgres') return // SQLite has one writer at a time
  for (const { name, version } of refs) {
    const query = tx.selectFrom('images').select('digest').where('name', '=', name)
    await query.where('version', '=', version).forUpdate().execute()
  }
}

/** The version of this name that was removed once. */
export function findPruned(db: Queries, name: string, version: string): Promise<PrunedImageRow | undefined> {
  return db
    .selectFrom('pruned_images')
    .selectAll()
    .where('name', '=', name)
    .where('version', '=', version)
    .executeTakeFirst()
}

/** Removes an image version, with its signatures and tests; its artifacts stay in the store, its digest is remembered. */
export async function deleteImage(tx: Tx, name: string, version: string, now: Date): Promise<void> {
  const row = await findImage(tx, name, version)
  if (row === undefined) return
  const pruned_at = now.toISOString()
  await tx
    .insertInto('pruned_images')
    .values({ name, version, digest: row.digest, pruned_at })
    .onConflict((c) => c.columns(['name', 'version']).doUpdateSet({ pruned_at }))
    .execute()
  await tx.deleteFrom('images').where('name', '=', name).where('version', '=', version).execute()
}
