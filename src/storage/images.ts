import type { Manifest } from '../domain/image.ts'
import type { Queries, Tx } from './database.ts'
import type { ImageArtifactRow } from './image-tables.ts'
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

/** Removes an image version, with its signatures and tests; its artifacts stay in the store. */
export async function deleteImage(tx: Tx, name: string, version: string): Promise<void> {
  await tx.deleteFrom('images').where('name', '=', name).where('version', '=', version).execute()
}
