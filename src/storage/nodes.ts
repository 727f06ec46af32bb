import type { AddressRange } from '../domain/address.ts'
import type { Queries, Storage, Tx } from './database.ts'
import { byColumns, statement } from './statement.ts'
import type { NodeRow } from './tables.ts'

/** A node with what is listed beside its row. */
export interface NodeRecord extends NodeRow {
  readonly addresses: readonly AddressRange[]
  readonly macs: readonly string[]
}

const byName = statement<{ name: string }>()((db, value) =>
  db.selectFrom('nodes').selectAll().where('name', '=', value('name')),
)
// SQLite has one writer at a time; its dialect has no row locks.
const lockByName = statement<{ name: string }>()((db, value, postgres) => {
  const query = db.selectFrom('nodes').selectAll().where('name', '=', value('name'))
  return postgres ? query.forUpdate() : query
})

/** Finds a node by name. */
export async function findNode(db: Queries, name: string): Promise<NodeRecord | undefined> {
  const row = await byName.first(db, { name })
  return row === undefined ? undefined : withLists(db, row)
}

/** Finds a node by name and keeps other transactions from changing it until this one ends. */
export async function lockNode(
  tx: Tx,
  _dialect: Storage['dialect'],
  name: string,
): Promise<NodeRecord | undefined> {
  const row = await lockNodeRow(tx, name)
  return row === undefined ? undefined : withLists(tx, row)
}

/** The same without what is listed beside its row: most boots need none of it. */
export function lockNodeRow(tx: Tx, name: string): Promise<NodeRow | undefined> {
  return lockByName.first(tx, { name })
}

/** Names of the nodes that a MAC address, system UUID or serial number is registered for, each name once. */
export async function findNodeNames(
  db: Queries,
  by: { mac?: string | undefined; uuid?: string | undefined; serial?: string | undefined },
): Promise<string[]> {
  const names = new Set<string>()
  if (by.mac !== undefined) {
    const row = await db
      .selectFrom('node_macs')
      .innerJoin('nodes', 'nodes.id', 'node_macs.node')
      .select('nodes.name')
      .where('node_macs.mac', '=', by.mac)
      .executeTakeFirst()
    if (row !== undefined) names.add(row.name)
  }
  for (const column of ['uuid', 'serial'] as const) {
    const value = by[column]
    if (value === undefined) continue
    const rows = await db.selectFrom('nodes').select('name').where(column, '=', value).limit(2).execute()
    for (const row of rows) names.add(row.name)
  }
  return [...names]
}

const otherHolders = statement<{ node: string; address: string }>()((db, value) =>
  db
    .selectFrom('node_addresses')
    .innerJoin('nodes', 'nodes.id', 'node_addresses.node')
    .select('nodes.name')
    .where('node_addresses.address', '=', value('address'))
    .where('node_addresses.prefix_length', 'in', [32, 128])
    .where('node_addresses.node', '<>', value('node'))
    .orderBy('nodes.name')
    .limit(10),
)

/** Nodes other than `node` that have this single address in their list: the first ten names. */
export async function listOtherHolders(db: Queries, node: string, address: string): Promise<string[]> {
  return (await otherHolders.all(db, { node, address })).map(({ name }) => name)
}

/** Names of the nodes that have this single address in their list, two at most. */
export async function findAddressHolders(db: Queries, address: string): Promise<string[]> {
  const rows = await db
    .selectFrom('node_addresses')
    .innerJoin('nodes', 'nodes.id', 'node_addresses.node')
    .select('nodes.name')
    .where('node_addresses.address', '=', address)
    .where('node_addresses.prefix_length', 'in', [32, 128])
    .limit(2)
    .execute()
  return rows.map(({ name }) => name)
}

const updates = byColumns((columns: readonly (keyof NodeRow)[]) =>
  statement<NodeRow>()((db, value) =>
    db
      .updateTable('nodes')
      .set(Object.fromEntries(columns.map((column) => [column, value(column)])))
      .where('id', '=', value('id')),
  ),
)

/** Changes columns of a node, never its id. */
export async function updateNode(tx: Tx, id: string, changes: Partial<Omit<NodeRow, 'id'>>): Promise<void> {
  await updates(changes).change(tx, { ...changes, id } as NodeRow) // of the others none is looked at
}

/** Replaces a node's address list. */
export async function setAddresses(tx: Tx, id: string, addresses: readonly AddressRange[]): Promise<void> {
  await tx.deleteFrom('node_addresses').where('node', '=', id).execute()
  if (addresses.length === 0) return
  const rows = addresses.map((a) => ({ node: id, address: a.address, prefix_length: a.prefixLength }))
  await tx
    .insertInto('node_addresses')
    .values(rows)
    .onConflict((c) => c.doNothing())
    .execute()
}

/** Replaces a node's MAC list. */
export async function setMacs(tx: Tx, id: string, macs: readonly string[]): Promise<void> {
  await tx.deleteFrom('node_macs').where('node', '=', id).execute()
  if (macs.length === 0) return
  await tx
    .insertInto('node_macs')
    .values([...new Set(macs)].map((mac) => ({ mac, node: id })))
    .execute()
}

const addressesOf = statement<{ node: string }>()((db, value) =>
  db
    .selectFrom('node_addresses')
    .select(['address', 'prefix_length as prefixLength'])
    .where('node', '=', value('node'))
    .orderBy('address'),
)
const macsOf = statement<{ node: string }>()((db, value) =>
  db.selectFrom('node_macs').select('mac').where('node', '=', value('node')).orderBy('mac'),
)

/** The addresses that a node is registered with. */
export function listAddresses(db: Queries, node: string): Promise<AddressRange[]> {
  return addressesOf.all(db, { node })
}

/** The MAC addresses that a node is registered with. */
export async function listMacs(db: Queries, node: string): Promise<string[]> {
  return (await macsOf.all(db, { node })).map(({ mac }) => mac)
}

async function withLists(db: Queries, row: NodeRow): Promise<NodeRecord> {
  const addresses = await listAddresses(db, row.id)
  return { ...row, addresses, macs: await listMacs(db, row.id) }
}
