import {
  countGoingOn,
  countPlaces,
  findLivePlaces,
  findMark,
  type LivePlace,
  lockCampaign,
  takeWaiting,
  updateCampaign,
  updatePlaces,
} from '../storage/campaigns.ts'
import { listProfiles, readProfile } from '../storage/fleet.ts'
import type { CampaignNodeState, CampaignRow } from '../storage/machine-tables.ts'
import type { NodeRow } from '../storage/tables.ts'
import { clearMarks, markNodes, type Notes, serverNotes } from './marks.ts'
import type { Work } from './work.ts'

/**
 * Reinstalls of many nodes. Only so many are under way at a time: a node is marked when there is a place for it, and holds it until
 * its reinstall succeeded, failed for good (the node is held), was cancelled or ran out. What ends one reinstall marks the next
 * node in the same transaction; a chore looks after what no boot reports (nodes that were removed, replicas that were killed).
 * Whoever fills places holds the campaign's row: of racing replicas none counts what another is about to fill.
 */

/** Where a place in a campaign comes to its end. */
interface Left {
  readonly state: CampaignNodeState
  readonly cause: string | null
}

/** Takes note of how a node's reinstall ended, and marks who comes next. A node that is in no campaign is no matter here. */
export function leaveCampaign(work: Work, node: Pick<NodeRow, 'id'>, to: Left): Promise<void> {
  return leaveCampaigns(work, [node], to)
}

/** The same of many nodes, in a few statements. All are out before anyone is marked: none of them is marked in turn. */
export async function leaveCampaigns(
  work: Work,
  nodes: readonly Pick<NodeRow, 'id'>[],
  to: Left,
  from: readonly LivePlace['state'][] = ['waiting', 'active'],
): Promise<void> {
  const places = await findLivePlaces(
    work.tx,
    nodes.map(({ id }) => id),
  )
  const leaving = [...places.values()].filter(({ state }) => from.includes(state))
  const byCampaign = Map.groupBy(leaving, ({ campaign }) => campaign)
  for (const id of [...byCampaign.keys()].sort()) {
    const left = byCampaign.get(id) ?? []
    await updatePlaces(
      work.tx,
      id,
      left.map(({ node }) => node),
      to,
      work.now,
    )
    const campaign = await lockCampaign(work.tx, work.context.storage.dialect, id)
    if (campaign === undefined) continue
    await settle(work, to.state === 'failed' ? await countFailures(work, campaign, left.length) : campaign)
  }
}

async function countFailures(work: Work, campaign: CampaignRow, more: number): Promise<CampaignRow> {
  const counted = { ...campaign, failures: campaign.failures + more }
  await updateCampaign(work.tx, campaign.id, { failures: counted.failures })
  const { max_failures: limit } = counted
  if (counted.state !== 'running' || limit === null || counted.failures < limit) return counted
  const cause = `${counted.failures} of its nodes failed`
  await updateCampaign(work.tx, campaign.id, { state: 'paused', cause })
  await serverNotes(work)([{ kind: 'campaign-paused', node: null, detail: { campaign: campaign.id, cause } }])
  return { ...counted, state: 'paused', cause }
}

/** Marks who comes next where there are places, and ends the campaign where nobody is left. Its row must be locked. */
export async function settle(work: Work, campaign: CampaignRow, notes = serverNotes(work)): Promise<void> {
  if (campaign.ended_at !== null) return
  if (campaign.state === 'running') await fill(work, campaign, notes)
  const counts = countsOf(await countPlaces(work.tx, campaign.id))
  if (counts.waiting + counts.marked + counts.serving > 0) return
  const ended = work.now.toISOString()
  await updateCampaign(work.tx, campaign.id, { state: 'completed', cause: null, ended_at: ended })
  await notes([{ kind: 'campaign-completed', node: null, detail: { campaign: campaign.id, ...counts } }])
}

async function fill(work: Work, campaign: CampaignRow, notes: Notes): Promise<void> {
  const { tx, context } = work
  const installable = await profilesWithReinstall(work)
  for (;;) {
    const counts = countsOf(await countPlaces(tx, campaign.id))
    const free = Math.min(500, counts.waiting, await freePlaces(work, campaign, counts))
    if (free <= 0) return
    const taken = await takeWaiting(tx, context.storage.dialect, campaign.id, free)
    if (taken.length === 0) return
    await begin(work, campaign, taken, installable, notes)
  }
}

/** How many may be marked now. A cancelled node takes its place until the session that went on is over: it loads as it did. */
async function freePlaces(
  { tx }: Work,
  { id, max_parallel: limit }: CampaignRow,
  { marked, serving }: CampaignCounts,
): Promise<number> {
  if (limit === null) return Number.MAX_SAFE_INTEGER
  return limit - marked - serving - (await countGoingOn(tx, id))
}

async function begin(
  work: Work,
  campaign: CampaignRow,
  taken: readonly NodeRow[],
  installable: ReadonlySet<string>,
  notes: Notes,
): Promise<void> {
  const move = (nodes: readonly NodeRow[], to: Left): Promise<void> =>
    updatePlaces(
      work.tx,
      campaign.id,
      nodes.map(({ id }) => id),
      to,
      work.now,
    )
  const byObstacle = Map.groupBy(taken, (node) => obstacleOf(node, installable))
  for (const [cause, nodes] of byObstacle) {
    if (cause === undefined) continue
    await move(nodes, { state: 'skipped', cause })
    const detail = { campaign: campaign.id, cause }
    await notes(nodes.map((node) => ({ kind: 'campaign-node-skipped', node: node.name, detail })))
  }
  const fit = byObstacle.get(undefined) ?? []
  await move(fit, { state: 'active', cause: null })
  // One that was marked by hand since is on its way.
  const wanting = fit.filter((node) => node.reinstall !== 'serving')
  await markNodes(work, wanting, notes, { campaign: campaign.id, markSeconds: campaign.mark_seconds })
}

/** Why a node cannot be marked for reinstall, whatever its mark is now. */
export function obstacleOf(node: NodeRow, installable: ReadonlySet<string>): string | undefined {
  if (node.state === 'disabled') return 'it is disabled'
  if (node.profile === null) return 'it has no profile'
  return installable.has(node.profile)
    ? undefined
    : `it has profile "${node.profile}", which has no reinstall sequence`
}

/** The names of the profiles that can reinstall. */
export async function profilesWithReinstall({ tx }: Pick<Work, 'tx'>): Promise<ReadonlySet<string>> {
  const rows = await listProfiles(tx)
  return new Set(rows.filter((row) => readProfile(row).reinstall !== undefined).map((row) => row.name))
}

/**
 * Lets a mark run out whose time is over; returns the node as it is then. Never one whose reinstall has begun: what is on its disk
 * may be half a system, and a node must not come to boot that by itself.
 */
export async function expireMark(work: Work, node: NodeRow): Promise<NodeRow> {
  if (node.reinstall !== 'marked' || node.reinstall_attempts > 0 || node.state === 'held') return node
  const mark = await findMark(work.tx, node.id)
  if (mark === undefined || mark.expires_at > work.now.toISOString()) return node
  await clearMarks(work, [node], serverNotes(work), 'expire', ({ name }) => ({
    kind: 'reinstall-expired',
    node: name,
    detail: { expiresAt: mark.expires_at },
  }))
  await leaveCampaign(work, node, { state: 'expired', cause: null })
  return { ...node, reinstall: 'none', reinstall_session: null }
}

/** How many nodes of a campaign stand where. `moved`: a later reinstall took them over. */
export type CampaignCounts = Readonly<
  Record<Exclude<CampaignNodeState, 'active'> | 'marked' | 'serving', number>
>

/** Counts by state, those under way told apart by whether a boot serves them. */
export function countsOf(rows: Awaited<ReturnType<typeof countPlaces>>): CampaignCounts {
  const counts = { waiting: 0, marked: 0, serving: 0, done: 0, failed: 0, cancelled: 0, expired: 0 }
  const all = { ...counts, skipped: 0, moved: 0 }
  for (const { state, serving, nodes } of rows)
    all[state === 'active' ? (serving ? 'serving' : 'marked') : state] += nodes
  return all
}
