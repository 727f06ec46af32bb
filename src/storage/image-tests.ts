import type { Queries, Tx } from './database.ts'
import type { ImageTestRow } from './image-tables.ts'

/** Tests of one image version that are kept. */
const keptTests = 20

/** Writes down how a test boot went. It takes the place of the version's oldest test where there are enough. */
export async function insertImageTest(tx: Tx, row: ImageTestRow): Promise<void> {
  const { name, version } = row
  await tx.insertInto('image_tests').values(row).execute()
  await tx
    .deleteFrom('image_tests')
    .where('name', '=', name)
    .where('version', '=', version)
    .where('id', 'not in', testsOf(tx, name, version).select('id').limit(keptTests))
    .execute()
}

/** An image version's tests, the latest first. */
export function listImageTests(
  db: Queries,
  name: string,
  version: string,
  limit = keptTests,
): Promise<ImageTestRow[]> {
  return testsOf(db, name, version).selectAll().limit(limit).execute()
}

/** An image version's latest test. */
export async function findLastTest(
  db: Queries,
  name: string,
  version: string,
): Promise<ImageTestRow | undefined> {
  return (await listImageTests(db, name, version, 1))[0]
}

/** The latest test of every version of these images that has one, by `name@version`. Its detail, up to 32 KiB each, stays unread. */
export async function listLastTests(
  db: Queries,
  names: readonly string[],
): Promise<Map<string, Omit<ImageTestRow, 'detail'>>> {
  const rows = await db
    .selectFrom('image_tests')
    .select(['id', 'name', 'version', 'passed', 'tested_by', 'tested_at'])
    .where('name', 'in', [...names, '']) // a list that is empty is none in SQL; no image is named ''
    .orderBy('tested_at')
    .orderBy('passed', 'desc')
    .execute()
  return new Map(rows.map((row) => [`${row.name}@${row.version}`, row])) // the last of several stays
}

function testsOf(db: Queries, name: string, version: string) {
  return db
    .selectFrom('image_tests')
    .where('name', '=', name)
    .where('version', '=', version)
    .orderBy('tested_at', 'desc')
    .orderBy('passed') // at the same millisecond the failure counts
    .orderBy('id')
}
