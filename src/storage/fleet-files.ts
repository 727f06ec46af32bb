import { type EventKind, nodeChain } from '../domain/event.ts'
import { inChunks } from './chunks.ts'
import type { Queries, Storage, Tx } from './database.ts'
import type { FleetKind, FleetObjectRow, FleetSetRow } from './fleet-file-tables.ts'
import type { EventRow } from './tables.ts'

/** Makes a set unless it is there, and keeps other applies of it waiting until the transaction ends. */
export async function lockSet(tx: Tx, dialect: Storage['dialect'], name: string): Promise<FleetSetRow> {
  await tx
    .insertInto('fleet_sets')
    .values({ name, files: null, applied_at: null, applied_by: null })
    .onConflict((c) => c.doNothing())
    .execute()
  const query = tx.selectFrom('fleet_sets').selectAll().where('name', '=', name)
  return (dialect === 'postgres' ? query.forUpdate() : query).executeTakeFirstOrThrow()
}

/** Writes down what was applied, when and by whom. */
export async function updateSet(tx: Tx, { name, ...columns }: FleetSetRow): Promise<void> {
  await tx.updateTable('fleet_sets').set(columns).where('name', '=', name).execute()
}

/** Forgets a set that nothing is in. */
export async function forgetEmptySet(tx: Tx, name: string): Promise<void> {
  await tx
    .deleteFrom('fleet_sets')
    .where('name', '=', name)
    .where('name', 'not in', tx.selectFrom('fleet_objects').select('set_name'))
    .execute()
}

/** A set with how much is in it. */
export interface CountedSetRow extends FleetSetRow {
  readonly kind: FleetKind | null
  readonly objects: number
}

/** Every set, one row for each kind of thing in it. */
export async function listSets(db: Queries): Promise<CountedSetRow[]> {
  const rows = await db
    .selectFrom('fleet_sets')
    .leftJoin('fleet_objects', 'fleet_objects.set_name', 'fleet_sets.name')
    .select(['fleet_sets.name', 'files', 'applied_at', 'applied_by', 'kind'])
    .select((e) => e.fn.count<number | string>('fleet_objects.name').as('objects'))
    .groupBy(['fleet_sets.name', 'files', 'applied_at', 'applied_by', 'kind'])
    .orderBy('fleet_sets.name')
    .orderBy('kind')
    .execute()
  return rows.map((row) => ({ ...row, objects: Number(row.objects) }))
}

/** Everything that is in some set. */
export function listObjects(db: Queries): Promise<FleetObjectRow[]> {
  return db.selectFrom('fleet_objects').selectAll().execute()
}

/** Writes down what files said of things, replacing what they said before. */
export async function putObjects(tx: Tx, rows: readonly FleetObjectRow[]): Promise<void> {
  for (const some of inChunks(rows, 4)) {
    await tx
      .insertInto('fleet_objects')
      .values(some)
      .onConflict((c) =>
        c.columns(['kind', 'name']).doUpdateSet((e) => ({
          set_name: e.ref('excluded.set_name'),
          document: e.ref('excluded.document'),
        })),
      )
      .execute()
  }
}

/** Forgets things that are in a set no more. */
export async function deleteObjects(tx: Tx, kind: FleetKind, names: readonly string[]): Promise<void> {
  for (const some of inChunks(names, 1)) {
    await tx.deleteFrom('fleet_objects').where('kind', '=', kind).where('name', 'in', some).execute()
  }
}

/** Forgets nodes by their ids: one that is made later under such a name is not what files made. */
export async function deleteNodeObjects(tx: Tx, ids: readonly string[]): Promise<void> {
  for (const some of inChunks(ids, 1)) {
    await tx
      .deleteFrom('fleet_objects')
      .where('kind', '=', 'node')
      .where('name', 'in', tx.selectFrom('nodes').select('name').where('id', 'in', some))
      .execute()
  }
}

/** The last events of these kinds about these nodes, the latest first. */
export async function listNodeChanges(
  db: Queries,
  nodes: readonly string[],
  kinds: readonly EventKind[],
): Promise<EventRow[]> {
  if (nodes.length === 0) return []
  const rows = await db
    .selectFrom('events')
    .selectAll()
    .where('chain', 'in', nodes.map(nodeChain))
    .where('kind', 'in', kinds)
    .orderBy('id', 'desc')
    .limit(2000)
    .execute()
  return rows as unknown as EventRow[] // Generated<> is for inserts only
}

/** The number of a chain's last event; 0 where it has none. */
export async function chainHead(db: Queries, chain: string): Promise<number> {
  const row = await db.selectFrom('chains').select('head_seq').where('name', '=', chain).executeTakeFirst()
  return row?.head_seq ?? 0
}

/** How far back on a long chain it is looked who changed something. */
const maxBack = 100_000

/** The last events of these kinds on one chain up to a number, the latest first. */
export async function listChainChanges(
  db: Queries,
  chain: string,
  kinds: readonly EventKind[],
  upTo: number,
): Promise<EventRow[]> {
  const rows = await db
    .selectFrom('events')
    .selectAll()
    .where('chain', '=', chain)
    .where('kind', 'in', kinds)
    .where('seq', '<=', upTo)
    .where('seq', '>', upTo - maxBack)
    .orderBy('seq', 'desc')
    .limit(500)
    .execute()
  return rows as unknown as EventRow[] // as above
}
