import { type RawBuilder, sql } from 'kysely'
import type { Profile } from '../domain/profile.ts'
import type { NodeState, ReinstallState } from '../domain/state.ts'
import type { Queries, Storage, Tx } from './database.ts'
import { deleteNodeObjects, deleteObjects } from './fleet-files.ts'
import { insertNodes } from './node-batch.ts'
import type { NodeRecord } from './nodes.ts'
import { statement } from './statement.ts'
import type { ImageRow, NodeRow, ProfileRow, SessionRow } from './tables.ts'

const profileByName = statement<{ name: string }>()((db, value) =>
  db.selectFrom('profiles').selectAll().where('name', '=', value('name')),
)

/** Finds a profile by name. */
export function findProfile(db: Queries, name: string): Promise<ProfileRow | undefined> {
  return profileByName.first(db, { name })
}

const version = statement<{ name: string; version: string }>()((db, value) =>
  db
    .selectFrom('images')
    .selectAll()
    .where('name', '=', value('name'))
    .where('version', '=', value('version')),
)

const versionForUse = statement<{ name: string; version: string }>()((db, value, postgres) => {
  const query = db
    .selectFrom('images')
    .selectAll()
    .where('name', '=', value('name'))
    .where('version', '=', value('version'))
  return postgres ? query.forKeyShare() : query
})

/** Finds an image version. */
export function findImage(db: Queries, name: string, of: string): Promise<ImageRow | undefined> {
  return version.first(db, { name, version: of })
}

/**
 * Finds an image version that is going to be used, and keeps prunes from removing it until the transaction ends. SQLite has
 * one writer at a time anyway.
 */
export function useImage(
  tx: Tx,
  _dialect: Storage['dialect'],
  name: string,
  of: string,
): Promise<ImageRow | undefined> {
  return versionForUse.first(tx, { name, version: of })
}

/**
 * A profile as it was stored: checked when it was applied, every default filled in, its secret settings sealed. It is not
 * parsed again, since a sealed setting has not the form of an open one.
 */
export function readProfile(row: ProfileRow): Profile {
  return JSON.parse(row.document) as Profile // our own column, written from writeProfile
}

/** Every profile, by name. */
export function listProfiles(db: Queries): Promise<ProfileRow[]> {
  return db.selectFrom('profiles').selectAll().orderBy('name').execute()
}

const readIn = new WeakMap<Queries, readonly Profile[]>()

/**
 * Every profile, by name, as they were stored. In a transaction they are read and parsed once, until it writes one: a change of
 * hundreds of channels looks at all of them for each.
 */
export async function allProfiles(db: Queries): Promise<readonly Profile[]> {
  const known = readIn.get(db)
  if (known !== undefined) return known
  const profiles = (await listProfiles(db)).map(readProfile)
  if (db.isTransaction) readIn.set(db, profiles)
  return profiles
}

/** Finds a profile and keeps other transactions from changing it until this one ends. */
export function lockProfile(
  tx: Tx,
  dialect: Storage['dialect'],
  name: string,
): Promise<ProfileRow | undefined> {
  const query = tx.selectFrom('profiles').selectAll().where('name', '=', name)
  return (dialect === 'postgres' ? query.forUpdate() : query).executeTakeFirst()
}

/** Adds a profile, or replaces the one of its name. */
export async function putProfile(tx: Tx, row: ProfileRow, how: 'new' | 'changed'): Promise<void> {
  const { name, document, revision, updated_at } = row
  readIn.delete(tx)
  // There is no row to lock before the first one: of two that make it at once, the second breaks its key.
  if (how === 'new') await tx.insertInto('profiles').values(row).execute()
  else
    await tx
      .updateTable('profiles')
      .set({ document, revision, updated_at })
      .where('name', '=', name)
      .execute()
}

/** Removes a profile; the files that made it hold it no more. */
export async function deleteProfile(tx: Tx, name: string): Promise<void> {
  readIn.delete(tx)
  await deleteObjects(tx, 'profile', [name])
  await tx.deleteFrom('profiles').where('name', '=', name).execute()
}

/** Which nodes to list, and from where on. */
export interface NodeFilter {
  readonly state?: NodeState | undefined
  /** Each must be there with this value; keys and values have been parsed. */
  readonly labels?: Readonly<Record<string, string>> | undefined
  readonly profile?: string | undefined
  readonly reinstall?: ReinstallState | undefined
  /** A pattern of names that was parsed: `*` for any characters, `?` for one. */
  readonly match?: string | undefined
  /** Only names behind this one: the cursor of paging. */
  readonly after?: string | undefined
  readonly limit: number
}

/** Lists nodes by name, with what is listed beside their rows; three queries whatever their number. */
export async function listNodes(db: Queries, filter: NodeFilter): Promise<NodeRecord[]> {
  let query = db.selectFrom('nodes').selectAll()
  if (filter.state !== undefined) query = query.where('state', '=', filter.state)
  if (filter.profile !== undefined) query = query.where('profile', '=', filter.profile)
  if (filter.reinstall !== undefined) query = query.where('reinstall', '=', filter.reinstall)
  if (filter.match !== undefined) query = query.where(matches('name', filter.match))
  if (filter.after !== undefined) query = query.where('name', '>', filter.after)
  for (const [key, value] of Object.entries(filter.labels ?? {})) {
    // Labels are stored as canonical JSON and hold no quotes, so this text is there exactly when the label is.
    // LIKE would not do: it ignores case in SQLite.
    const member = `"${key}":"${value}"`
    query = query.where(sql<boolean>`replace(labels, ${member}, '') <> labels`)
  }
  const rows = await query.orderBy('name').limit(filter.limit).execute()
  return withLists(db, rows)
}

/** Names are of lower case, so that it does not matter that SQLite's LIKE ignores it; "_" is a character of theirs. */
function matches(column: string, pattern: string): RawBuilder<boolean> {
  const like = pattern.replaceAll('_', '\\_').replace(/\*+/g, '%').replaceAll('?', '_')
  return sql<boolean>`${sql.ref(column)} like ${like} escape '\\'`
}

/** The names and labels of all nodes, to select some of them by. */
export function listNodeNames(db: Queries): Promise<{ name: string; labels: string }[]> {
  return db.selectFrom('nodes').select(['name', 'labels']).orderBy('name').execute()
}

/** Nodes of these profiles that may boot: all but disabled ones. */
export function listMembers(
  db: Queries,
  profiles: readonly string[],
): Promise<{ id: string; name: string; labels: string }[]> {
  if (profiles.length === 0) return Promise.resolve([])
  return db
    .selectFrom('nodes')
    .select(['id', 'name', 'labels'])
    .where('profile', 'in', profiles)
    .where('state', '<>', 'disabled')
    .execute()
}

/** Finds nodes and keeps other transactions from changing them. Always in order of name, so that no two lock each other out. */
export async function lockNodes(
  tx: Tx,
  dialect: Storage['dialect'],
  names: readonly string[],
): Promise<NodeRow[]> {
  const found: NodeRow[] = []
  const sorted = [...names].sort()
  for (let from = 0; from < sorted.length; from += 500) {
    const query = tx
      .selectFrom('nodes')
      .selectAll()
      .where('name', 'in', sorted.slice(from, from + 500))
      .orderBy('name')
    found.push(...(await (dialect === 'postgres' ? query.forUpdate() : query).execute()))
  }
  return found
}

/** Sessions by their ids. */
export async function findSessions(
  db: Queries,
  ids: readonly string[],
): Promise<ReadonlyMap<string, SessionRow>> {
  if (ids.length === 0) return new Map()
  const rows = await db.selectFrom('sessions').selectAll().where('id', 'in', ids).execute()
  return new Map(rows.map((row) => [row.id, row]))
}

/** Names of other nodes that have one of these single addresses too. */
export async function findSharers(
  db: Queries,
  node: string,
  addresses: readonly string[],
): Promise<{ name: string; address: string }[]> {
  if (addresses.length === 0) return []
  return db
    .selectFrom('node_addresses')
    .innerJoin('nodes', 'nodes.id', 'node_addresses.node')
    .select(['nodes.name', 'node_addresses.address'])
    .where('node_addresses.address', 'in', addresses)
    .where('node_addresses.prefix_length', 'in', [32, 128])
    .where('node_addresses.node', '<>', node)
    .orderBy('nodes.name')
    .limit(20)
    .execute()
}

/** Adds a node's row. */
export function insertNode(tx: Tx, row: NodeRow): Promise<void> {
  return insertNodes(tx, [row])
}

/** Removes a node, with its lists, sessions and tokens; the files that made it hold it no more. Its events stay. */
export async function deleteNode(tx: Tx, id: string): Promise<void> {
  await deleteNodeObjects(tx, [id])
  await tx.deleteFrom('nodes').where('id', '=', id).execute()
}

/** Retires every token of every session of a node, those that would still take late reports included. */
export async function retireTokensOf(tx: Tx, node: string, now: Date): Promise<void> {
  await tx
    .updateTable('tokens')
    .set({ retired_at: now.toISOString(), answer: null })
    .where('session', 'in', tx.selectFrom('sessions').select('id').where('node', '=', node))
    .where('retired_at', 'is', null)
    .execute()
}

async function withLists(db: Queries, rows: readonly NodeRow[]): Promise<NodeRecord[]> {
  if (rows.length === 0) return []
  const ids = rows.map((row) => row.id)
  const addresses = await db
    .selectFrom('node_addresses')
    .selectAll()
    .where('node', 'in', ids)
    .orderBy('address')
    .execute()
  const macs = await db.selectFrom('node_macs').selectAll().where('node', 'in', ids).orderBy('mac').execute()
  const addressesOf = Map.groupBy(addresses, (row) => row.node)
  const macsOf = Map.groupBy(macs, (row) => row.node)
  return rows.map((row) => ({
    ...row,
    addresses: (addressesOf.get(row.id) ?? []).map((a) => ({
      address: a.address,
      prefixLength: a.prefix_length,
    })),
    macs: (macsOf.get(row.id) ?? []).map((m) => m.mac),
  }))
}
