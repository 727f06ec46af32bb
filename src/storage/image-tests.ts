import type { Queries, Tx } from './database.ts'
import type { ImageTestRow } from './image-tables.ts'

/** Writes down how a test boot went. */
export async function insertImageTest(tx: Tx, row: ImageTestRow): Promise<void> {
  await tx.insertInto('image_tests').values(row).execute()
}

/** An image version's tests, the latest first. */
export function listImageTests(
  db: Queries,
  name: string,
  version: string,
  limit: number,
): Promise<ImageTestRow[]> {
  return db
    .selectFrom('image_tests')
    .selectAll()
    .where('name', '=', name)
    .where('version', '=', version)
    .orderBy('tested_at', 'desc')
    .orderBy('passed') // at the same millisecond the failure counts
    .orderBy('id')
    .limit(limit)
    .execute()
}

/** An image version's latest test. */
export async function findLastTest(
  db: Queries,
  name: string,
  version: string,
): Promise<ImageTestRow | undefined> {
  return (await listImageTests(db, name, version, 1))[0]
}
