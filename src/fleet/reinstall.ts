import { leaveCampaigns, settle } from '../boot/campaign.ts'
import type { BootContext } from '../boot/context.ts'
import { clearMarks, markNodes } from '../boot/marks.ts'
import { PawlError } from '../errors.ts'
import { findCampaign, insertCampaign } from '../storage/campaigns.ts'
import type { CampaignRow } from '../storage/machine-tables.ts'
import type { NodeRow } from '../storage/tables.ts'
import { type CampaignView, campaignView } from './campaign-view.ts'
import { type By, type Change, change } from './change.ts'
import { makesCampaign, type PlannedNode, planCancels, planMarks, type Step } from './reinstall-plan.ts'
import { describeSelection, lockSelected, type NodeSelection, selectionOf } from './reinstall-selection.ts'

/** Which nodes, and what to do with their marks. */
export interface ReinstallRequest extends NodeSelection {
  /** Take the marks back, and whom it waits for out of its campaign. */
  readonly cancel?: boolean
  /** Say what would happen, and do nothing. */
  readonly dryRun?: boolean
  /** How many may be under way at a time; the rest waits. */
  readonly maxParallel?: number
  /** Nodes that may fail before no further one is marked. */
  readonly maxFailures?: number
  /** How long a mark is good for that no boot has served; 0: for ever; left out: the setting. */
  readonly expiresSeconds?: number
  /** Mark nodes too whose last reinstalls all failed. */
  readonly force?: boolean
  /** Leave those out instead. */
  readonly skipFailing?: boolean
}

/** The whole plan. `applied` is false for a dry run. */
export interface ReinstallPlan {
  readonly nodes: readonly PlannedNode[]
  readonly applied: boolean
  /** What follows the nodes from now on: of more than one, or with a limit. */
  readonly campaign: CampaignView | null
}

/**
 * Marks nodes for reinstall, or takes their marks back: all of them or none, in one transaction. With a limit only so many are
 * marked, and each of the others when there is a place for it. Throws `conflict` naming the nodes that cannot be;
 * `not-found` where one is not there, or none is meant.
 */
export async function reinstall(
  context: BootContext,
  by: By,
  request: ReinstallRequest,
): Promise<ReinstallPlan> {
  const select = selectionOf(request)
  checkLimits(request)
  return change(context, by, async (change) => {
    const rows = await lockSelected(change, select)
    if (request.cancel === true) return cancelAll(change, await planCancels(change, rows, request), request)
    return markAll(change, await planMarks(change, rows, request), request)
  })
}

const maxMarkSeconds = 365 * 86_400

function checkLimits(request: ReinstallRequest): void {
  const { cancel, maxParallel, maxFailures, expiresSeconds, force, skipFailing } = request
  if (force === true && skipFailing === true)
    throw new PawlError('invalid', 'failing nodes are either forced or skipped, not both')
  const given = [maxParallel, maxFailures, expiresSeconds, force, skipFailing]
  if (cancel === true && given.some((value) => value !== undefined))
    throw new PawlError('invalid', 'limits are for marking nodes, not for taking marks back')
  for (const [name, value] of [
    ['maxParallel', maxParallel],
    ['maxFailures', maxFailures],
  ] as const) {
    if (value !== undefined && (!Number.isSafeInteger(value) || value < 1 || value > 100_000))
      throw new PawlError('invalid', `${name} ${value} is not 1 to 100000`)
  }
  if (expiresSeconds === undefined || expiresSeconds === 0) return
  if (!Number.isSafeInteger(expiresSeconds) || expiresSeconds < 60 || expiresSeconds > maxMarkSeconds)
    throw new PawlError('invalid', 'a mark is good for 60 s to 365 days, or for ever (0)')
}

/** Marks one node inside a change that has its own reasons; throws `conflict` as `reinstall` does. */
export async function markIn(
  change: Change,
  node: NodeRow,
  request: Pick<ReinstallRequest, 'force'>,
): Promise<void> {
  await markAll(change, await planMarks(change, [node], request), request)
}

async function markAll(
  change: Change,
  steps: readonly Step[],
  request: ReinstallRequest,
): Promise<ReinstallPlan> {
  const wanted = steps.filter(({ shown }) => shown.skipped === undefined)
  if (wanted.length === 0) {
    throw new PawlError('conflict', 'every node is left out: their last reinstalls failed', {
      hint: 'look at their timelines; --force marks them all the same',
    })
  }
  const limit = request.maxParallel ?? Number.MAX_SAFE_INTEGER
  let places = 0
  const nodes = steps.map(({ shown }): PlannedNode => {
    if (shown.skipped !== undefined) return shown
    places += 1
    return places > limit ? { ...shown, after: shown.before, waits: true } : shown
  })
  if (request.dryRun === true) return { nodes, applied: false, campaign: null }
  // Out of a campaign without a limit, which they were in: the later word counts.
  const moved = wanted.filter(({ place }) => place?.maxParallel === null).map(({ node }) => node)
  await leaveCampaigns(change, moved, { state: 'moved', cause: 'a later reinstall took it over' })
  if (makesCampaign(request, steps.length))
    return { nodes, applied: true, campaign: await start(change, wanted, request, steps.length) }
  const rows = wanted.map(({ node }) => node)
  await markNodes(change, rows, change.notes, { markSeconds: markSeconds(change, request) })
  return { nodes, applied: true, campaign: null }
}

function markSeconds({ context }: Change, { expiresSeconds }: ReinstallRequest): number | null {
  const seconds = expiresSeconds ?? context.settings.reinstallMarkSeconds
  return seconds === 0 ? null : seconds
}

async function start(
  change: Change,
  wanted: readonly Step[],
  request: ReinstallRequest,
  selected: number,
): Promise<CampaignView> {
  const { tx, now, by, context } = change
  const row: CampaignRow = {
    id: Buffer.from(context.randomBytes(9)).toString('base64url'),
    selection: describeSelection(request),
    state: 'running',
    max_parallel: request.maxParallel ?? null,
    max_failures: request.maxFailures ?? null,
    mark_seconds: markSeconds(change, request),
    failures: 0,
    cause: null,
    started_by: by.actor,
    started_at: now.toISOString(),
    ended_at: null,
  }
  await insertCampaign(
    tx,
    row,
    wanted.map(({ node }) => node.id),
  )
  await settle(change, row, change.notes)
  await change.note('campaign-started', null, {
    campaign: row.id,
    selection: row.selection,
    nodes: wanted.length,
    leftOut: selected - wanted.length,
    maxParallel: row.max_parallel,
    maxFailures: row.max_failures,
    expiresSeconds: row.mark_seconds,
  })
  return campaignView(tx, (await findCampaign(tx, row.id)) ?? row)
}

async function cancelAll(
  change: Change,
  steps: readonly Step[],
  { dryRun }: ReinstallRequest,
): Promise<ReinstallPlan> {
  if (dryRun !== true) {
    await takeBack(change, steps)
    const leaving = steps.filter(({ place }) => place !== undefined).map(({ node }) => node)
    await leaveCampaigns(change, leaving, cancelledBy(change))
  }
  return { nodes: steps.map(({ shown }) => shown), applied: dryRun !== true, campaign: null }
}

/** Takes the marks of nodes back. Their places in campaigns are the caller's. */
export async function takeBack(change: Change, steps: readonly Step[]): Promise<void> {
  const marked = steps.filter(({ shown }) => shown.before !== shown.after).map(({ node }) => node)
  await clearMarks(change, marked, change.notes, 'cancel', (node) => ({
    kind: 'reinstall-cancelled',
    node: node.name,
    detail: { before: node.reinstall, session: node.reinstall_session },
  }))
}

/** How a place ends that an operator takes back. */
export function cancelledBy({ by }: Change): { readonly state: 'cancelled'; readonly cause: string } {
  return { state: 'cancelled', cause: `by ${by.actor.replace(/^operator:/, '')}` }
}
