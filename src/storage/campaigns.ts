import { inChunks } from './chunks.ts'
import type { Queries, Storage, Tx } from './database.ts'
import type { CampaignNodeRow, CampaignNodeState, CampaignRow, ReinstallMarkRow } from './machine-tables.ts'
import type { NodeRow } from './tables.ts'

/** Stores a campaign with its nodes, in the order in which they are to come. */
export async function insertCampaign(tx: Tx, row: CampaignRow, nodes: readonly string[]): Promise<void> {
  await tx.insertInto('campaigns').values(row).execute()
  // SQLite takes 32,766 values a statement.
  for (let at = 0; at < nodes.length; at += 5000) {
    const rows = nodes.slice(at, at + 5000).map((node, index) => ({
      campaign: row.id,
      node,
      position: at + index,
      state: 'waiting' as const,
      cause: null,
      changed_at: row.started_at,
    }))
    await tx.insertInto('campaign_nodes').values(rows).execute()
  }
}

/** Finds a campaign. */
export function findCampaign(db: Queries, id: string): Promise<CampaignRow | undefined> {
  return db.selectFrom('campaigns').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Finds a campaign and keeps other transactions from counting its places: of racing replicas one fills them at a time. */
export function lockCampaign(
  tx: Tx,
  dialect: Storage['dialect'],
  id: string,
): Promise<CampaignRow | undefined> {
  const query = tx.selectFrom('campaigns').selectAll().where('id', '=', id)
  return (dialect === 'postgres' ? query.forUpdate() : query).executeTakeFirst()
}

/** The ids of campaigns that are not over. */
export async function listLiveCampaigns(db: Queries): Promise<string[]> {
  const rows = await db
    .selectFrom('campaigns')
    .select('id')
    .where('ended_at', 'is', null)
    .orderBy('id')
    .execute()
  return rows.map(({ id }) => id)
}

/** Campaigns, the newest first. */
export function listCampaigns(db: Queries, limit: number): Promise<CampaignRow[]> {
  return db
    .selectFrom('campaigns')
    .selectAll()
    .orderBy('started_at', 'desc')
    .orderBy('id')
    .limit(limit)
    .execute()
}

/** Changes columns of a campaign. */
export async function updateCampaign(tx: Tx, id: string, changes: Partial<CampaignRow>): Promise<void> {
  await tx.updateTable('campaigns').set(changes).where('id', '=', id).execute()
}

/** A node's place in a campaign that it is in now, with what the campaign allows. */
export interface LivePlace {
  readonly node: string
  readonly campaign: string
  readonly state: 'waiting' | 'active'
  readonly maxParallel: number | null
}

/** The live places of nodes, by node. */
export async function findLivePlaces(db: Queries, nodes: readonly string[]): Promise<Map<string, LivePlace>> {
  const found = new Map<string, LivePlace>()
  for (let at = 0; at < nodes.length; at += 5000) {
    const rows = await db
      .selectFrom('campaign_nodes')
      .innerJoin('campaigns', 'campaigns.id', 'campaign_nodes.campaign')
      .select(['node', 'campaign', 'campaign_nodes.state', 'max_parallel as maxParallel'])
      .where('node', 'in', nodes.slice(at, at + 5000))
      .where('campaign_nodes.state', 'in', ['waiting', 'active'])
      .execute()
    for (const row of rows) found.set(row.node, { ...row, state: row.state as LivePlace['state'] }) // as was asked for
  }
  return found
}

/** Moves the places of nodes on. */
export async function updatePlaces(
  tx: Tx,
  campaign: string,
  nodes: readonly string[],
  to: Pick<CampaignNodeRow, 'state' | 'cause'>,
  now: Date,
): Promise<void> {
  for (const some of inChunks(nodes, 1))
    await tx
      .updateTable('campaign_nodes')
      .set({ ...to, changed_at: now.toISOString() })
      .where('campaign', '=', campaign)
      .where('node', 'in', some)
      .execute()
}

/** How many nodes of a campaign are in each state; of those under way, whether a boot serves them now. */
export async function countPlaces(
  db: Queries,
  campaign: string,
): Promise<{ state: CampaignNodeState; serving: boolean; nodes: number }[]> {
  const rows = await db
    .selectFrom('campaign_nodes')
    .innerJoin('nodes', 'nodes.id', 'campaign_nodes.node')
    .select((e) => ['campaign_nodes.state', 'nodes.reinstall', e.fn.countAll<number | string>().as('nodes')])
    .where('campaign', '=', campaign)
    .groupBy(['campaign_nodes.state', 'nodes.reinstall'])
    .execute()
  return rows.map(({ state, reinstall, nodes }) => ({
    state,
    serving: reinstall === 'serving',
    nodes: Number(nodes),
  }))
}

/** How many reinstalls go on of nodes that left a campaign while a boot served them. */
export async function countGoingOn(db: Queries, campaign: string): Promise<number> {
  const { count } = await db
    .selectFrom('campaign_nodes')
    .innerJoin('sessions', 'sessions.node', 'campaign_nodes.node')
    .select((e) => e.fn.countAll<number | string>().as('count'))
    .where('campaign', '=', campaign)
    .where('campaign_nodes.state', '=', 'cancelled')
    .where('sessions.ended_at', 'is', null)
    .where('sessions.sequence', '=', 'reinstall')
    // A later reinstall of the same node is no matter of this campaign.
    .whereRef('sessions.started_at', '<=', 'campaign_nodes.changed_at')
    .executeTakeFirstOrThrow()
  return Number(count)
}

/**
 * The next nodes that wait, in their order. One that another transaction holds is passed over: its boot is being served, and the
 * chore comes by again. So nobody here waits for a node's row while holding the campaign's.
 */
export function takeWaiting(
  tx: Tx,
  dialect: Storage['dialect'],
  campaign: string,
  limit: number,
): Promise<NodeRow[]> {
  const query = tx
    .selectFrom('nodes')
    .innerJoin('campaign_nodes', 'campaign_nodes.node', 'nodes.id')
    .selectAll('nodes')
    .where('campaign_nodes.campaign', '=', campaign)
    .where('campaign_nodes.state', '=', 'waiting')
    .orderBy('campaign_nodes.position')
    .limit(limit)
  return (dialect === 'postgres' ? query.forUpdate('nodes').skipLocked() : query).execute()
}

/** The nodes of a campaign that are in it now. */
export async function listLiveNodes(db: Queries, campaign: string): Promise<string[]> {
  const rows = await db
    .selectFrom('campaign_nodes')
    .innerJoin('nodes', 'nodes.id', 'campaign_nodes.node')
    .select('nodes.name')
    .where('campaign', '=', campaign)
    .where('campaign_nodes.state', 'in', ['waiting', 'active'])
    .orderBy('nodes.name')
    .execute()
  return rows.map(({ name }) => name)
}

/** A node of a campaign, with what tells how it stands. */
export interface PlaceRow extends Pick<CampaignNodeRow, 'state' | 'cause' | 'changed_at'> {
  readonly name: string
  readonly reinstall: NodeRow['reinstall']
  readonly nodeState: NodeRow['state']
  readonly attempts: number
}

/** A campaign's nodes by name, some of them. */
export function listPlaces(
  db: Queries,
  campaign: string,
  filter: {
    readonly states?: readonly CampaignNodeState[]
    /** Of those under way: which a boot serves now, or does not. */
    readonly serving?: boolean
    readonly after?: string | undefined
    readonly limit: number
  },
): Promise<PlaceRow[]> {
  let query = db
    .selectFrom('campaign_nodes')
    .innerJoin('nodes', 'nodes.id', 'campaign_nodes.node')
    .select([
      'nodes.name',
      'nodes.reinstall',
      'nodes.state as nodeState',
      'nodes.reinstall_attempts as attempts',
      'campaign_nodes.state',
      'campaign_nodes.cause',
      'campaign_nodes.changed_at',
    ])
    .where('campaign', '=', campaign)
  if (filter.states !== undefined) query = query.where('campaign_nodes.state', 'in', filter.states)
  if (filter.serving !== undefined)
    query = query.where('nodes.reinstall', filter.serving ? '=' : '<>', 'serving')
  if (filter.after !== undefined) query = query.where('nodes.name', '>', filter.after)
  return query.orderBy('nodes.name').limit(filter.limit).execute()
}

/** Until when a node's mark is good; undefined: for ever. */
export function findMark(db: Queries, node: string): Promise<ReinstallMarkRow | undefined> {
  return db.selectFrom('reinstall_marks').selectAll().where('node', '=', node).executeTakeFirst()
}

/** Says until when the marks of nodes are good; null: for ever. */
export async function putMarks(tx: Tx, nodes: readonly string[], expiresAt: string | null): Promise<void> {
  for (const some of inChunks(nodes, 2)) {
    await tx.deleteFrom('reinstall_marks').where('node', 'in', some).execute()
    if (expiresAt === null) continue
    const rows = some.map((node) => ({ node, expires_at: expiresAt }))
    await tx.insertInto('reinstall_marks').values(rows).execute()
  }
}

/** Names of nodes whose marks have run out and are not under way. */
export async function listExpiredMarks(db: Queries, now: Date, limit: number): Promise<string[]> {
  const rows = await db
    .selectFrom('reinstall_marks')
    .innerJoin('nodes', 'nodes.id', 'reinstall_marks.node')
    .select('nodes.name')
    .where('expires_at', '<=', now.toISOString())
    .where('nodes.reinstall', '=', 'marked')
    .where('nodes.reinstall_attempts', '=', 0)
    .where('nodes.state', '<>', 'held')
    .orderBy('nodes.name')
    .limit(limit)
    .execute()
  return rows.map(({ name }) => name)
}

/** Of these nodes those whose last `times` reinstalls, as far as they came to stage 2, all failed. */
export async function listFailing(
  db: Queries,
  nodes: readonly string[],
  times: number,
): Promise<ReadonlySet<string>> {
  const failing = new Set<string>()
  for (let at = 0; at < nodes.length; at += 5000) {
    const rows = await db
      .selectFrom(
        db
          .selectFrom('sessions')
          .select((e) => [
            'node',
            'state',
            e.fn
              .agg<number | string>('row_number')
              .over((o) => o.partitionBy('node').orderBy('started_at', 'desc'))
              .as('place'),
          ])
          .where('node', 'in', nodes.slice(at, at + 5000))
          .where('sequence', '=', 'reinstall')
          .where('state', 'in', ['ready', 'failed', 'expired'])
          .where('stage', '<>', 'stage1')
          .as('ended'),
      )
      .select((e) => ['node', e.fn.countAll<number | string>().as('ended')])
      .where('place', '<=', times)
      .where('state', '<>', 'ready')
      .groupBy('node')
      .execute()
    for (const { node, ended } of rows) if (Number(ended) >= times) failing.add(node)
  }
  return failing
}
