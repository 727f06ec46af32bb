import { sql } from 'kysely'
import type { AddressRange } from '../domain/address.ts'
import { nodeChain } from '../domain/event.ts'
import { inChunks } from './chunks.ts'
import type { Queries, Tx } from './database.ts'
import { deleteNodeObjects } from './fleet-files.ts'
import type { NodeRecord } from './nodes.ts'
import type { NodeRow } from './tables.ts'

/** Reads and writes of many nodes at once: a few statements whatever their number. */

/** Every node with what is listed beside its row, in no order. */
export async function allNodes(db: Queries): Promise<NodeRecord[]> {
  const rows = await db.selectFrom('nodes').selectAll().execute()
  const addresses = await db.selectFrom('node_addresses').selectAll().orderBy('address').execute()
  const macs = await db.selectFrom('node_macs').selectAll().orderBy('mac').execute()
  const addressesOf = Map.groupBy(addresses, (row) => row.node)
  const macsOf = Map.groupBy(macs, (row) => row.node)
  return rows.map((row) => ({
    ...row,
    addresses: (addressesOf.get(row.id) ?? []).map(({ address, prefix_length: prefixLength }) => ({
      address,
      prefixLength,
    })),
    macs: (macsOf.get(row.id) ?? []).map(({ mac }) => mac),
  }))
}

/** The ids of the nodes that boot now. */
export async function nodesWithLiveSession(db: Queries): Promise<ReadonlySet<string>> {
  const rows = await db.selectFrom('sessions').select('node').where('ended_at', 'is', null).execute()
  return new Set(rows.map(({ node }) => node))
}

/**
 * Adds nodes' rows. A name that had a node before goes on behind its last event, which no revision of that node reached: what
 * was seen of that one is of no use against this one. A new name begins at the revision of its row.
 */
export async function insertNodes(tx: Tx, rows: readonly NodeRow[]): Promise<void> {
  const ends = new Map<string, number>()
  for (const some of inChunks(rows, 1)) {
    const chains = some.map(({ name }) => nodeChain(name))
    const found = await tx
      .selectFrom('chains')
      .select(['name', 'head_seq'])
      .where('name', 'in', chains)
      .execute()
    for (const { name, head_seq } of found) ends.set(name, head_seq)
  }
  const numbered = rows.map((row) => ({
    ...row,
    revision: row.revision + (ends.get(nodeChain(row.name)) ?? 0),
  }))
  for (const some of inChunks(numbered, 22)) await tx.insertInto('nodes').values(some).execute()
}

/** Removes nodes, with their lists, sessions and tokens; the files that made them hold them no more. Their events stay. */
export async function deleteNodes(tx: Tx, ids: readonly string[]): Promise<void> {
  await deleteNodeObjects(tx, ids)
  for (const some of inChunks(ids, 1)) await tx.deleteFrom('nodes').where('id', 'in', some).execute()
}

/** Changes columns of nodes that all get the same. */
export async function updateNodesAlike(
  tx: Tx,
  ids: readonly string[],
  changes: Partial<NodeRow>,
): Promise<void> {
  for (const some of inChunks(ids, 1))
    await tx.updateTable('nodes').set(changes).where('id', 'in', some).execute()
}

/** What operators set of a node, as columns. */
export type NodeSettingColumns = Pick<NodeRow, 'id' | 'profile' | 'uuid' | 'serial' | 'labels' | 'updated_at'>

/** Writes settings of nodes that are there, each change counting one revision up. */
export async function updateNodes(
  tx: Tx,
  changes: readonly { readonly row: NodeRow; readonly columns: NodeSettingColumns }[],
): Promise<void> {
  // Two nodes may exchange their UUIDs: in between, neither has one.
  const moved = changes.filter(({ row, columns }) => row.uuid !== null && row.uuid !== columns.uuid)
  for (const some of inChunks(moved, 1)) {
    const ids = some.map(({ row }) => row.id)
    await tx.updateTable('nodes').set({ uuid: null }).where('id', 'in', ids).execute()
  }
  // Both databases call the columns of a list of values column1, column2, ...
  for (const some of inChunks(changes, 6)) {
    const values = some.map(
      ({ columns: c }) => sql`(${c.id}, ${c.profile}, ${c.uuid}, ${c.serial}, ${c.labels}, ${c.updated_at})`,
    )
    await sql`update nodes set profile = v.column2, uuid = v.column3, serial = v.column4, labels = v.column5,
      updated_at = v.column6, revision = revision + 1
      from (values ${sql.join(values)}) as v where nodes.id = v.column1`.execute(tx)
  }
}

/** Replaces the address and MAC lists of nodes. */
export async function replaceLists(
  tx: Tx,
  lists: readonly {
    readonly id: string
    readonly addresses: readonly AddressRange[]
    readonly macs: readonly string[]
  }[],
): Promise<void> {
  for (const some of inChunks(lists, 1)) {
    const ids = some.map(({ id }) => id)
    await tx.deleteFrom('node_addresses').where('node', 'in', ids).execute()
    await tx.deleteFrom('node_macs').where('node', 'in', ids).execute()
  }
  const addresses = lists.flatMap(({ id, addresses }) =>
    addresses.map(({ address, prefixLength }) => ({ node: id, address, prefix_length: prefixLength })),
  )
  const macs = lists.flatMap(({ id, macs }) => macs.map((mac) => ({ mac, node: id })))
  for (const some of inChunks(addresses, 3)) await tx.insertInto('node_addresses').values(some).execute()
  for (const some of inChunks(macs, 2)) await tx.insertInto('node_macs').values(some).execute()
}
