import type { Queries, Tx } from './database.ts'
import type { ProcessRow } from './process-tables.ts'

/** Writes what a process says of itself, in the place of what it said before. */
export async function saveProcess(tx: Tx, row: ProcessRow): Promise<void> {
  const { seen_at, stats } = row
  await tx
    .insertInto('processes')
    .values(row)
    .onConflict((on) => on.column('id').doUpdateSet({ seen_at, stats }))
    .execute()
}

/** Forgets those that have said nothing since. */
export async function forgetProcesses(tx: Tx, before: Date): Promise<void> {
  await tx.deleteFrom('processes').where('seen_at', '<', before.toISOString()).execute()
}

/** Forgets one that ends. */
export async function forgetProcess(tx: Tx, id: string): Promise<void> {
  await tx.deleteFrom('processes').where('id', '=', id).execute()
}

/** All that there are, by host and the time they began. */
export function listProcesses(db: Queries): Promise<ProcessRow[]> {
  return db.selectFrom('processes').selectAll().orderBy('host').orderBy('started_at').orderBy('id').execute()
}

/** The labels of nodes, as stored. */
export function findLabels(
  db: Queries,
  names: readonly string[],
): Promise<{ name: string; labels: string }[]> {
  if (names.length === 0) return Promise.resolve([])
  return db.selectFrom('nodes').select(['name', 'labels']).where('name', 'in', names).execute()
}
