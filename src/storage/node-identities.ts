import type { Queries, Tx } from './database.ts'
import type { IdentityProofRow, NodeIdentityRow } from './node-identity-tables.ts'
import { statement } from './statement.ts'

/** The identity that has a key, by its thumbprint. */
export function findNodeIdentity(db: Queries, thumbprint: string): Promise<NodeIdentityRow | undefined> {
  return db.selectFrom('node_identities').selectAll().where('thumbprint', '=', thumbprint).executeTakeFirst()
}

const keyAt = statement<{ name: string; thumbprint: string }>()((db, value) =>
  db
    .selectFrom('nodes')
    .leftJoin('node_identities', (join) => join.on('node_identities.thumbprint', '=', value('thumbprint')))
    .select(['nodes.id as node', 'node_identities.node as owner'])
    .where('nodes.name', '=', value('name')),
)

/** A node by its name, and the one that has a key, null where none has; undefined where there is no such node. */
export function findKeyAt(
  db: Queries,
  name: string,
  thumbprint: string,
): Promise<{ readonly node: string; readonly owner: string | null } | undefined> {
  return keyAt.first(db, { name, thumbprint })
}

/** The identity of a boot session. */
export function findSessionIdentity(db: Queries, session: string): Promise<NodeIdentityRow | undefined> {
  return db.selectFrom('node_identities').selectAll().where('session', '=', session).executeTakeFirst()
}

/** The identities of a node, that of its last boot first; bounded by the sessions that are kept. */
export function listNodeIdentities(db: Queries, node: string): Promise<NodeIdentityRow[]> {
  return db
    .selectFrom('node_identities')
    .selectAll()
    .where('node', '=', node)
    .orderBy('registered_at', 'desc')
    .limit(20)
    .execute()
}

/** Keeps a key unless somebody has it: false then. Of two nodes that register one key at once, one does. */
export async function addNodeIdentity(tx: Tx, row: NodeIdentityRow): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('node_identities')
    .values(row)
    .onConflict((conflict) => conflict.column('thumbprint').doNothing())
    .executeTakeFirstOrThrow()
  return numInsertedOrUpdatedRows === 1n
}

/** Changes what is known of a key. */
export async function updateNodeIdentity(
  tx: Tx,
  thumbprint: string,
  changes: Partial<Omit<NodeIdentityRow, 'thumbprint' | 'node'>>,
): Promise<void> {
  await tx.updateTable('node_identities').set(changes).where('thumbprint', '=', thumbprint).execute()
}

/** Uses a proof up; false where it was used before. */
export async function useProof(tx: Tx, proof: IdentityProofRow): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('identity_proofs')
    .values(proof)
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirstOrThrow()
  return numInsertedOrUpdatedRows === 1n
}

/** How many proofs of a key were used that are not too old to be taken at a time. */
export async function countProofs(tx: Tx, thumbprint: string, now: string): Promise<number> {
  const { many } = await tx
    .selectFrom('identity_proofs')
    .select((e) => e.fn.countAll().as('many'))
    .where('thumbprint', '=', thumbprint)
    .where('ends_at', '>', now)
    .executeTakeFirstOrThrow()
  return Number(many)
}

/** Forgets used proofs that ended before a time. */
export async function forgetProofs(db: Queries, before: string): Promise<void> {
  await db.deleteFrom('identity_proofs').where('ends_at', '<', before).execute()
}
