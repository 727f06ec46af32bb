import type { RolloutNodeState } from '../domain/rollout.ts'
import type { Queries, Storage, Tx } from './database.ts'
import type { RolloutNodeRow, RolloutRow } from './image-tables.ts'

/** Stores a rollout with its nodes. */
export async function insertRollout(
  tx: Tx,
  row: RolloutRow,
  nodes: readonly Pick<RolloutNodeRow, 'node' | 'wave'>[],
): Promise<void> {
  await tx.insertInto('rollouts').values(row).execute()
  // SQLite takes 32,766 values a statement.
  for (let at = 0; at < nodes.length; at += 5000) {
    const rows = nodes.slice(at, at + 5000).map(({ node, wave }) => ({
      rollout: row.id,
      node,
      wave,
      state: 'waiting' as const,
      session: null,
      repeats: 0,
    }))
    await tx.insertInto('rollout_nodes').values(rows).execute()
  }
}

/** Finds a rollout. */
export function findRollout(db: Queries, id: string): Promise<RolloutRow | undefined> {
  return db.selectFrom('rollouts').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Finds a rollout and keeps other transactions from changing it. */
export function lockRollout(
  tx: Tx,
  dialect: Storage['dialect'],
  id: string,
): Promise<RolloutRow | undefined> {
  const query = tx.selectFrom('rollouts').selectAll().where('id', '=', id)
  return (dialect === 'postgres' ? query.forUpdate() : query).executeTakeFirst()
}

/** The rollout that a channel is under, if any. */
export function findLiveRollout(
  db: Queries,
  { name, channel }: { name: string; channel: string },
): Promise<RolloutRow | undefined> {
  return db
    .selectFrom('rollouts')
    .selectAll()
    .where('name', '=', name)
    .where('channel', '=', channel)
    .where('ended_at', 'is', null)
    .executeTakeFirst()
}

/** Every rollout that is not over. */
export function listLiveRollouts(db: Queries): Promise<RolloutRow[]> {
  return db.selectFrom('rollouts').selectAll().where('ended_at', 'is', null).orderBy('id').execute()
}

/** Changes columns of a rollout. */
export async function updateRollout(tx: Tx, id: string, changes: Partial<RolloutRow>): Promise<void> {
  await tx.updateTable('rollouts').set(changes).where('id', '=', id).execute()
}

/** A node's place in a rollout; undefined for one that is not in it. */
export function findRolloutNode(
  db: Queries,
  rollout: string,
  node: string,
): Promise<RolloutNodeRow | undefined> {
  return db
    .selectFrom('rollout_nodes')
    .selectAll()
    .where('rollout', '=', rollout)
    .where('node', '=', node)
    .executeTakeFirst()
}

/** Changes a node's place in a rollout. */
export async function updateRolloutNode(
  tx: Tx,
  rollout: string,
  node: string,
  changes: Partial<Pick<RolloutNodeRow, 'state' | 'session' | 'repeats'>>,
): Promise<void> {
  await tx
    .updateTable('rollout_nodes')
    .set(changes)
    .where('rollout', '=', rollout)
    .where('node', '=', node)
    .execute()
}

/** How many nodes of each wave are in each state. */
export async function countRolloutNodes(
  db: Queries,
  rollout: string,
): Promise<{ wave: number; state: RolloutNodeState; nodes: number }[]> {
  const rows = await db
    .selectFrom('rollout_nodes')
    .select((e) => ['wave', 'state', e.fn.countAll<number | string>().as('nodes')])
    .where('rollout', '=', rollout)
    .groupBy(['wave', 'state'])
    .execute()
  return rows.map(({ wave, state, nodes }) => ({ wave, state, nodes: Number(nodes) }))
}

/** Names of the nodes of a rollout that are in a state, some of them. */
export async function listRolloutNodeNames(
  db: Queries,
  rollout: string,
  state: RolloutNodeState,
  limit: number,
): Promise<string[]> {
  const rows = await db
    .selectFrom('rollout_nodes')
    .innerJoin('nodes', 'nodes.id', 'rollout_nodes.node')
    .select('nodes.name')
    .where('rollout', '=', rollout)
    .where('rollout_nodes.state', '=', state)
    .orderBy('nodes.name')
    .limit(limit)
    .execute()
  return rows.map(({ name }) => name)
}
