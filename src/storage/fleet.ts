import type { Queries } from './database.ts'
import type { ImageRow, ProfileRow } from './tables.ts'

/** Finds a profile by name. */
export function findProfile(db: Queries, name: string): Promise<ProfileRow | undefined> {
  return db.selectFrom('profiles').selectAll().where('name', '=', name).executeTakeFirst()
}

/** Finds an image version. */
export function findImage(db: Queries, name: string, version: string): Promise<ImageRow | undefined> {
  return db
    .selectFrom('images')
    .selectAll()
    .where('name', '=', name)
    .where('version', '=', version)
    .executeTakeFirst()
}
