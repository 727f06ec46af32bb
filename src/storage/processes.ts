import type { Queries, Tx } from './database.ts'
import type { ProcessRow } from './process-tables.ts'

/** Writes what a process says of itself, in the place of what it said before. */
export async function saveProcess(tx: Tx, row: ProcessRow): Promise<void> {
  const { seen_at, stats, leads, marks } = row
  await tx
    .insertInto('processes')
    .values(row)
    .onConflict((on) => on.column('id').doUpdateSet({ seen_at, stats, leads, marks }))
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

/** The lock is this server's: whatever another said last, it leads no more. */
export async function forgetOtherLeaders(db: Queries, id: string): Promise<void> {
  await db.updateTable('processes').set({ leads: 0 }).where('leads', '=', 1).where('id', '!=', id).execute()
}

/** A server of several on one database, as it said last. */
export type ServerRow = Pick<ProcessRow, 'id' | 'host' | 'pid' | 'leads'> & {
  readonly version: string
  readonly marks: string
}

/** The servers that said something since, the oldest first. */
export async function listServers(db: Queries, since: Date): Promise<ServerRow[]> {
  const rows = await db
    .selectFrom('processes')
    .select(['id', 'host', 'pid', 'leads', 'version', 'marks'])
    .where('seen_at', '>=', since.toISOString())
    .where('marks', 'is not', null)
    .where('version', 'is not', null)
    .orderBy('started_at')
    .orderBy('id')
    .execute()
  return rows as ServerRow[] // neither is null
}

/** The labels of nodes, as stored. */
export function findLabels(
  db: Queries,
  names: readonly string[],
): Promise<{ name: string; labels: string }[]> {
  if (names.length === 0) return Promise.resolve([])
  return db.selectFrom('nodes').select(['name', 'labels']).where('name', 'in', names).execute()
}
