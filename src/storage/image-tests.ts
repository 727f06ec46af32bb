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

/** The latest test of every image version that has one, by `name@version`. */
export async function listLastTests(db: Queries): Promise<Map<string, ImageTestRow>> {
  const rows = await db
    .selectFrom('image_tests')
    .selectAll()
    .orderBy('tested_at')
    .orderBy('passed', 'desc')
    .execute()
  return new Map(rows.map((row) => [`${row.name}@${row.version}`, row])) // the last of several stays
}
