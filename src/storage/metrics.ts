import type { NodeState, SessionState } from '../domain/state.ts'
import type { Queries } from './database.ts'

/** Sessions that have not ended: how many, since when, and when the quietest was last heard of. */
export interface LiveSessions {
  readonly state: SessionState
  readonly count: number
  readonly oldestStart: string
  readonly oldestSeen: string
}

/** Live sessions by state; they are few, and have an index of their own. */
export async function countLiveSessions(db: Queries): Promise<LiveSessions[]> {
  const rows = await db
    .selectFrom('sessions')
    .select((e) => [
      'state',
      e.fn.countAll().as('count'),
      e.fn.min('started_at').as('oldestStart'),
      e.fn.min('last_seen_at').as('oldestSeen'),
    ])
    .where('ended_at', 'is', null)
    .groupBy('state')
    .execute()
  return rows.map((row) => ({ ...row, count: Number(row.count) }))
}

/** The event log as a whole: its last number, and how many events are kept (the chains know, no event is counted). */
export async function measureEvents(
  db: Queries,
): Promise<{ readonly last: number; readonly kept: number; readonly checkpointAt: string | null }> {
  const { last } = await db
    .selectFrom('events')
    .select((e) => e.fn.max('id').as('last'))
    .executeTakeFirstOrThrow()
  const { head, base } = await db
    .selectFrom('chains')
    .select((e) => [e.fn.sum('head_seq').as('head'), e.fn.sum('base_seq').as('base')])
    .executeTakeFirstOrThrow()
  const checkpoint = await db
    .selectFrom('checkpoints')
    .select('at')
    .orderBy('seq', 'desc')
    .limit(1)
    .executeTakeFirst()
  return {
    last: Number(last ?? 0),
    kept: Number(head ?? 0) - Number(base ?? 0),
    checkpointAt: checkpoint?.at ?? null,
  }
}

/** Deliveries that wait or are dead, and since when the oldest waits. */
export async function measureDeliveries(
  db: Queries,
): Promise<{ readonly waiting: number; readonly dead: number; readonly oldestWaiting: string | null }> {
  const rows = await db
    .selectFrom('webhook_deliveries')
    .select((e) => ['state', e.fn.countAll().as('count'), e.fn.min('created_at').as('oldest')])
    .where('state', 'in', ['waiting', 'dead'])
    .groupBy('state')
    .execute()
  const of = (state: string) => rows.find((row) => row.state === state)
  return {
    waiting: Number(of('waiting')?.count ?? 0),
    dead: Number(of('dead')?.count ?? 0),
    oldestWaiting: of('waiting')?.oldest ?? null,
  }
}

/** What waits for people, and what runs: pending machines, proposals, rollouts by state. */
export async function countWaiting(
  db: Queries,
  now: Date,
): Promise<{
  readonly pending: number
  readonly proposals: number
  readonly rollouts: Readonly<Record<string, number>>
}> {
  const at = now.toISOString()
  const pending = await db
    .selectFrom('pending_machines')
    .select((e) => e.fn.countAll().as('count'))
    .where('expires_at', '>', at)
    .where('rejected', '=', 0)
    .executeTakeFirstOrThrow()
  const proposals = await db
    .selectFrom('proposals')
    .select((e) => e.fn.countAll().as('count'))
    .where('state', '=', 'waiting')
    .where('expires_at', '>', at)
    .executeTakeFirstOrThrow()
  const rollouts = await db
    .selectFrom('rollouts')
    .select((e) => ['state', e.fn.countAll().as('count')])
    .where('ended_at', 'is', null)
    .groupBy('state')
    .execute()
  return {
    pending: Number(pending.count),
    proposals: Number(proposals.count),
    rollouts: Object.fromEntries(rollouts.map(({ state, count }) => [state, Number(count)])),
  }
}

/** When a node last began to boot, and last succeeded. */
export interface NodeBoots {
  readonly name: string
  readonly lastBoot: string | null
  readonly lastSuccess: string | null
}

/** A page of nodes in the order of their names, with their last boots. */
export async function pageOfBoots(db: Queries, after: string, limit: number): Promise<NodeBoots[]> {
  const rows = await db
    .selectFrom('nodes')
    .leftJoin('sessions', 'sessions.id', 'nodes.session')
    .select(['nodes.id', 'nodes.name', 'sessions.started_at', 'sessions.state', 'sessions.ended_at'])
    .where('nodes.name', '>', after)
    .orderBy('nodes.name')
    .limit(limit)
    .execute()
  const others = rows.filter(({ state }) => state !== null && state !== 'ready').map(({ id }) => id)
  const successes = await lastSuccesses(db, others)
  return rows.map(({ id, name, started_at: started, state, ended_at: ended }) => ({
    name,
    lastBoot: started,
    lastSuccess: (state === 'ready' ? ended : successes.get(id)) ?? null,
  }))
}

/** Of nodes whose last session is no success: the sessions of each are few, and found by its index. */
async function lastSuccesses(db: Queries, nodes: readonly string[]): Promise<Map<string, string>> {
  if (nodes.length === 0) return new Map()
  const rows = await db
    .selectFrom('sessions')
    .select((e) => ['node', e.fn.max('ended_at').as('at')])
    .where('node', 'in', nodes)
    .where('state', '=', 'ready')
    .groupBy('node')
    .execute()
  return new Map(rows.flatMap(({ node, at }) => (at === null ? [] : [[node, at] as const])))
}

/** A node as Prometheus finds it. */
export interface TargetRow {
  readonly id: string
  readonly name: string
  readonly state: NodeState
  readonly profile: string | null
  readonly labels: string
  readonly pinned: string | null
  readonly source: string | null
}

/** A page of nodes in these states, in the order of their names, with what they booted last. */
export function pageOfTargets(
  db: Queries,
  states: readonly NodeState[],
  { after, limit }: { readonly after: string; readonly limit: number },
): Promise<TargetRow[]> {
  return db
    .selectFrom('nodes')
    .leftJoin('sessions', 'sessions.id', 'nodes.session')
    .select([
      'nodes.id',
      'nodes.name',
      'nodes.state',
      'nodes.profile',
      'nodes.labels',
      'sessions.pinned',
      'sessions.source',
    ])
    .where('nodes.state', 'in', states)
    .where('nodes.name', '>', after)
    .orderBy('nodes.name')
    .limit(limit)
    .execute()
}

/** The single addresses that nodes are registered with, in order. */
export async function addressesOf(db: Queries, nodes: readonly string[]): Promise<Map<string, string[]>> {
  if (nodes.length === 0) return new Map()
  const rows = await db
    .selectFrom('node_addresses')
    .select(['node', 'address'])
    .where('node', 'in', nodes)
    .where('prefix_length', 'in', [32, 128])
    .orderBy('address')
    .execute()
  const found = new Map<string, string[]>()
  for (const { node, address } of rows) found.set(node, [...(found.get(node) ?? []), address])
  return found
}
