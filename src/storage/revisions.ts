import { sql } from 'kysely'
import { type EventKind, nodeChain } from '../domain/event.ts'
import { inChunks } from './chunks.ts'
import type { Queries, Tx } from './database.ts'
import type { EventRow } from './tables.ts'

/** Counts the revisions of nodes up, each by `more`. */
export async function countNodeRevisions(tx: Tx, names: readonly string[], more: number): Promise<void> {
  for (const some of inChunks(names, 1))
    await tx
      .updateTable('nodes')
      .set((e) => ({ revision: e('revision', '+', more) }))
      .where('name', 'in', some)
      .execute()
}

/**
 * The revision that a thing of this name had when one was removed last; 0 where none was. What takes its name goes on behind it, so that
 * nobody who saw the one of before changes this one unseen.
 */
export async function lastRevision(db: Queries, of: 'profile' | 'channel', name: string): Promise<number> {
  const kinds = [`${of}-removed`] as const
  const [row] = await listLastEvents(db, { kinds, field: of, value: name, limit: 1 })
  const { revision } = JSON.parse(row?.detail ?? '{}') as { revision?: number } // our own column
  return revision ?? 0
}

/** Which of the last events to list: a node's, or those with one field in their detail. */
export interface LastEvents {
  readonly kinds: readonly EventKind[]
  readonly node?: string
  readonly field?: string
  readonly value?: string
  readonly limit: number
}

/** The last events of these kinds about one thing, in the order they were written. */
export async function listLastEvents(db: Queries, wanted: LastEvents): Promise<EventRow[]> {
  let query = db.selectFrom('events').selectAll().where('kind', 'in', wanted.kinds)
  // What the server changes of a node by itself is no revision.
  if (wanted.node !== undefined)
    query = query.where('chain', '=', nodeChain(wanted.node)).where('actor', 'like', 'operator:%')
  if (wanted.field !== undefined) {
    // Detail is canonical JSON, so this text is there exactly when the field is (a name holds no quotes). LIKE would not
    // do: it ignores case in SQLite.
    const member = `${JSON.stringify(wanted.field)}:${JSON.stringify(wanted.value)}`
    query = query.where(sql<boolean>`replace(detail, ${member}, '') <> detail`)
  }
  const rows = await query
    .orderBy(wanted.node === undefined ? 'id' : 'seq', 'desc')
    .limit(wanted.limit)
    .execute()
  // An identity column makes `id` a plain number in both dialects; Generated<> is for inserts only.
  return rows.reverse() as unknown as EventRow[]
}
