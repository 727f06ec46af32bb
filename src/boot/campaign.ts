import { addSeconds } from '../domain/clock.ts'
import type { EventKind } from '../domain/event.ts'
import { advance, next, nodeTransitions, reinstallTransitions } from '../domain/state.ts'
import {
  countPlaces,
  findLivePlaces,
  findMark,
  lockCampaign,
  putMark,
  takeWaiting,
  updateCampaign,
  updatePlace,
} from '../storage/campaigns.ts'
import { listProfiles, readProfile } from '../storage/fleet.ts'
import type { CampaignNodeState, CampaignRow } from '../storage/machine-tables.ts'
import { type NodeRecord, updateNode } from '../storage/nodes.ts'
import type { NodeRow } from '../storage/tables.ts'
import type { Work } from './work.ts'

/**
 * Reinstalls of many nodes. Only so many are under way at a time: a node is marked when there is a place for it, and holds it until
 * its reinstall succeeded, failed for good (the node is held), was cancelled or ran out. What ends one reinstall marks the next
 * node in the same transaction; a chore looks after what no boot reports (nodes that were removed, replicas that were killed).
 * Whoever fills places holds the campaign's row: of racing replicas none counts what another is about to fill.
 */

/** Appends an event of whoever acts: the operator who starts it, the server later. */
export type Note = (kind: EventKind, node: string | null, detail: Record<string, unknown>) => Promise<void>

/** Notes what the server does by itself. */
export function serverNote(work: Work): Note {
  return (kind, node, detail) =>
    work.event({ kind, node, session: null, actor: 'server', source: null, detail })
}

/** Takes note of how a node's reinstall ended, and marks who comes next. A node that is in no campaign is no matter here. */
export async function leaveCampaign(
  work: Work,
  node: Pick<NodeRow, 'id'>,
  to: { readonly state: CampaignNodeState; readonly cause: string | null },
): Promise<void> {
  const place = (await findLivePlaces(work.tx, [node.id])).get(node.id)
  if (place === undefined) return
  await updatePlace(work.tx, place.campaign, node.id, to, work.now)
  const campaign = await lockCampaign(work.tx, work.context.storage.dialect, place.campaign)
  if (campaign === undefined) return
  const failed = to.state === 'failed'
  await settle(work, failed ? await countFailure(work, campaign) : campaign)
}

async function countFailure(work: Work, campaign: CampaignRow): Promise<CampaignRow> {
  const counted = { ...campaign, failures: campaign.failures + 1 }
  await updateCampaign(work.tx, campaign.id, { failures: counted.failures })
  const { max_failures: limit } = counted
  if (counted.state !== 'running' || limit === null || counted.failures < limit) return counted
  const cause = `${counted.failures} of its nodes failed`
  await updateCampaign(work.tx, campaign.id, { state: 'paused', cause })
  await serverNote(work)('campaign-paused', null, { campaign: campaign.id, cause })
  return { ...counted, state: 'paused', cause }
}

/** Marks who comes next where there are places, and ends the campaign where nobody is left. Its row must be locked. */
export async function settle(work: Work, campaign: CampaignRow, note = serverNote(work)): Promise<void> {
  if (campaign.ended_at !== null) return
  if (campaign.state === 'running') await fill(work, campaign, note)
  const counts = countsOf(await countPlaces(work.tx, campaign.id))
  if (counts.waiting + counts.marked + counts.serving > 0) return
  const ended = work.now.toISOString()
  await updateCampaign(work.tx, campaign.id, { state: 'completed', cause: null, ended_at: ended })
  await note('campaign-completed', null, { campaign: campaign.id, ...counts })
}

async function fill(work: Work, campaign: CampaignRow, note: Note): Promise<void> {
  const { tx, context } = work
  const installable = await profilesWithReinstall(work)
  for (;;) {
    const counts = countsOf(await countPlaces(tx, campaign.id))
    const limit = campaign.max_parallel ?? Number.MAX_SAFE_INTEGER
    const free = Math.min(500, counts.waiting, limit - counts.marked - counts.serving)
    if (free <= 0) return
    const taken = await takeWaiting(tx, context.storage.dialect, campaign.id, free)
    if (taken.length === 0) return
    for (const node of taken) await begin(work, campaign, node, installable, note)
  }
}

async function begin(
  work: Work,
  campaign: CampaignRow,
  node: NodeRow,
  installable: ReadonlySet<string>,
  note: Note,
): Promise<void> {
  const cause = obstacleOf(node, installable)
  if (cause !== undefined) {
    await updatePlace(work.tx, campaign.id, node.id, { state: 'skipped', cause }, work.now)
    await note('campaign-node-skipped', node.name, { campaign: campaign.id, cause })
    return
  }
  await updatePlace(work.tx, campaign.id, node.id, { state: 'active', cause: null }, work.now)
  if (node.reinstall === 'serving') return // marked by hand since, and on its way
  await markNode(work, node, note, { campaign: campaign.id, markSeconds: campaign.mark_seconds })
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

/** Marks a node: attempts begin again, a held node is let go, and the next boot needs no other word of an operator. */
export async function markNode(
  work: Work,
  node: NodeRow,
  note: Note,
  { campaign, markSeconds }: { readonly campaign?: string; readonly markSeconds: number | null },
): Promise<void> {
  const expiresAt = markSeconds === null ? null : addSeconds(work.now, markSeconds).toISOString()
  await changeMark(work, node, note, 'mark', { armed: 1 })
  await putMark(work.tx, node.id, expiresAt)
  await note('reinstall-marked', node.name, {
    before: node.reinstall,
    attemptsBefore: node.reinstall_attempts,
    ...(campaign === undefined ? {} : { campaign }),
    ...(expiresAt === null ? {} : { expiresAt }),
  })
}

/** Takes a mark back, or lets it run out. A node that was held for its reinstall is let go: an operator gave that up. */
export async function clearMark(
  work: Work,
  node: NodeRow,
  note: Note,
  event: 'cancel' | 'expire',
): Promise<void> {
  await changeMark(work, node, note, event, {})
  await putMark(work.tx, node.id, null)
}

async function changeMark(
  work: Work,
  node: NodeRow,
  note: Note,
  event: 'mark' | 'cancel' | 'expire',
  more: Partial<NodeRow>,
): Promise<void> {
  const released = next(nodeTransitions, node.state, 'release')
  await updateNode(work.tx, node.id, {
    reinstall: advance(reinstallTransitions, node.reinstall, event, `the reinstall mark of ${node.name}`),
    reinstall_attempts: 0,
    reinstall_session: null,
    updated_at: work.now.toISOString(),
    ...more,
    ...(released === undefined ? {} : { state: released }),
  })
  if (released === undefined) return
  await note('node-changed', node.name, { before: { state: node.state }, after: { state: released } })
}

/**
 * Lets a mark run out whose time is over; returns the node as it is then. Never one whose reinstall has begun: what is on its disk
 * may be half a system, and a node must not come to boot that by itself.
 */
export async function expireMark(work: Work, node: NodeRecord): Promise<NodeRecord> {
  if (node.reinstall !== 'marked' || node.reinstall_attempts > 0 || node.state === 'held') return node
  const mark = await findMark(work.tx, node.id)
  if (mark === undefined || mark.expires_at > work.now.toISOString()) return node
  const note = serverNote(work)
  await clearMark(work, node, note, 'expire')
  await note('reinstall-expired', node.name, { expiresAt: mark.expires_at })
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
