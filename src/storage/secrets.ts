import type { SecretEnd } from '../domain/secret.ts'
import type { Queries, Tx } from './database.ts'
import type { NodeSecretRow } from './secret-tables.ts'
import { byColumns, statement } from './statement.ts'

/** How many secrets that opened nothing any more are kept of a node: to say of whoever comes with one what it is. */
const maxEnded = 100

/** Finds a secret of a node. */
export function findSecret(db: Queries, node: string, id: string): Promise<NodeSecretRow | undefined> {
  return byId.first(db, { node, id })
}

const byId = statement<{ node: string; id: string }>()((db, value) =>
  db.selectFrom('node_secrets').selectAll().where('node', '=', value('node')).where('id', '=', value('id')),
)
const updates = byColumns((columns: readonly (keyof NodeSecretRow)[]) =>
  statement<NodeSecretRow>()((db, value) =>
    db
      .updateTable('node_secrets')
      .set(Object.fromEntries(columns.map((column) => [column, value(column)])))
      .where('node', '=', value('node'))
      .where('id', '=', value('id')),
  ),
)

/** Finds a secret of whatever node, with that node's name. */
export function findAnySecret(
  db: Queries,
  id: string,
): Promise<{ secret_hash: string; nodeName: string } | undefined> {
  return db
    .selectFrom('node_secrets')
    .innerJoin('nodes', 'nodes.id', 'node_secrets.node')
    .select(['node_secrets.secret_hash', 'nodes.name as nodeName'])
    .where('node_secrets.id', '=', id)
    .orderBy('nodes.name')
    .executeTakeFirst()
}

/** Adds a secret. */
export async function insertSecret(tx: Tx, row: NodeSecretRow): Promise<void> {
  await tx.insertInto('node_secrets').values(row).execute()
}

/** Changes columns of a secret. */
export async function updateSecret(
  tx: Tx,
  { node, id }: Pick<NodeSecretRow, 'node' | 'id'>,
  changes: Partial<Omit<NodeSecretRow, 'node' | 'id'>>,
): Promise<void> {
  await updates(changes).change(tx, { ...changes, node, id } as NodeSecretRow) // of the others none is looked at
}

/** A node's secrets that have not ended, the newest first. */
export function listOpenSecrets(db: Queries, node: string): Promise<NodeSecretRow[]> {
  return db
    .selectFrom('node_secrets')
    .selectAll()
    .where('node', '=', node)
    .where('ended', 'is', null)
    .orderBy('issued_at', 'desc')
    .orderBy('id')
    .execute()
}

/** Ends all secrets of a node that have not ended, but for one; forgets those that ended long before. */
export async function endSecrets(
  tx: Tx,
  node: string,
  ended: SecretEnd,
  now: Date,
  except?: string,
): Promise<void> {
  let query = tx
    .updateTable('node_secrets')
    .set({ ended, ended_at: now.toISOString() })
    .where('node', '=', node)
    .where('ended', 'is', null)
  if (except !== undefined) query = query.where('id', '<>', except)
  await query.execute()
  await forgetEnded(tx, node)
}

/** Forgets those secrets of a node that ended long before. */
export async function forgetEnded(tx: Tx, node: string): Promise<void> {
  await tx
    .deleteFrom('node_secrets')
    .where('node', '=', node)
    .where('id', 'in', (e) =>
      e
        .selectFrom('node_secrets')
        .select('id')
        .where('node', '=', node)
        .where('ended', 'is not', null)
        .orderBy('ended_at', 'desc')
        .orderBy('id')
        .offset(maxEnded)
        .limit(1000),
    )
    .execute()
}

/** The secrets of these nodes that have not ended, and those that were revoked; by node, the newest first. */
export async function findShownSecrets(
  db: Queries,
  nodes: readonly string[],
): Promise<Map<string, NodeSecretRow[]>> {
  if (nodes.length === 0) return new Map()
  const rows = await db
    .selectFrom('node_secrets')
    .selectAll()
    .where('node', 'in', nodes)
    .where((e) => e.or([e('ended', 'is', null), e('ended', '=', 'revoked')]))
    .orderBy('issued_at', 'desc')
    .orderBy('id')
    .execute()
  return Map.groupBy(rows, (row) => row.node)
}

/** Current secrets that end before `until` and of which that was not told yet, with the names of their nodes. */
export function listExpiring(
  db: Queries,
  until: Date,
  limit: number,
): Promise<(NodeSecretRow & { nodeName: string })[]> {
  return db
    .selectFrom('node_secrets')
    .innerJoin('nodes', (join) =>
      join.onRef('nodes.id', '=', 'node_secrets.node').onRef('nodes.secret_id', '=', 'node_secrets.id'),
    )
    .selectAll('node_secrets')
    .select('nodes.name as nodeName')
    .where('node_secrets.expires_at', '<=', until.toISOString())
    .where('node_secrets.warned_at', 'is', null)
    .orderBy('node_secrets.expires_at')
    .limit(limit)
    .execute()
}
