import { obstacleOf, profilesWithReinstall } from '../boot/campaign.ts'
import { next, type ReinstallState, reinstallTransitions } from '../domain/state.ts'
import { PawlError } from '../errors.ts'
import { findLivePlaces, type LivePlace, listFailing } from '../storage/campaigns.ts'
import type { NodeRow } from '../storage/tables.ts'
import type { Change } from './change.ts'
import type { ReinstallRequest } from './reinstall.ts'

/** What happens, or would happen, to one node. */
export interface PlannedNode {
  readonly name: string
  readonly before: ReinstallState
  readonly after: ReinstallState
  /** It is marked when there is a place for it; of a cancel: it waited, and does no more. */
  readonly waits?: boolean
  /** Why it is left out, where such nodes may be. */
  readonly skipped?: string
  readonly warning?: string
}

/** One node of a plan, with what it takes to carry it out. */
export interface Step {
  readonly node: NodeRow
  readonly shown: PlannedNode
  readonly place: LivePlace | undefined
}

interface Fault {
  readonly reason: string
  readonly hint: string
}

/** Plans marks: throws `conflict` naming the nodes that stand against it. */
export async function planMarks(
  change: Change,
  rows: readonly NodeRow[],
  request: ReinstallRequest,
): Promise<Step[]> {
  const ids = rows.map((row) => row.id)
  const { maxReinstallFailures: times } = change.context.settings
  const failing =
    times === 0 || request.force === true ? new Set<string>() : await listFailing(change.tx, ids, times)
  const installable = await profilesWithReinstall(change)
  const places = await findLivePlaces(change.tx, ids)
  const campaign = makesCampaign(request, rows.length)
  return carry(rows, places, (node, place) => {
    const fault = markFault(node, installable) ?? placeFault(node, place, campaign)
    if (fault !== undefined) return fault
    const after = next(reinstallTransitions, node.reinstall, 'mark') ?? node.reinstall
    if (!failing.has(node.id)) return { name: node.name, before: node.reinstall, after }
    const reason = `its last ${times} reinstalls failed`
    if (request.skipFailing === true)
      return { name: node.name, before: node.reinstall, after: node.reinstall, skipped: reason }
    return {
      reason: `node "${node.name}": ${reason}`,
      hint: `see pawl node timeline ${node.name}; --force marks it all the same, --skip-failing leaves such nodes out`,
    }
  })
}

/** Whether this is to be followed as a campaign: more than one node, or limits. */
export function makesCampaign({ maxParallel, maxFailures }: ReinstallRequest, nodes: number): boolean {
  return nodes > 1 || maxParallel !== undefined || maxFailures !== undefined
}

function markFault(node: NodeRow, installable: ReadonlySet<string>): Fault | undefined {
  const { name, profile } = node
  if (obstacleOf(node, installable) !== undefined) {
    const who = `node "${name}"`
    if (node.state === 'disabled')
      return { reason: `${who} is disabled`, hint: `enable it with pawl node enable ${name}` }
    if (profile === null)
      return { reason: `${who} has no profile`, hint: `give it one with pawl node set ${name} --profile P` }
    return {
      reason: `${who} has profile "${profile}", which has no reinstall sequence`,
      hint: `add one to the profile, or give ${name} another`,
    }
  }
  if (next(reinstallTransitions, node.reinstall, 'mark') !== undefined) return undefined
  return {
    reason: `node "${name}" is being reinstalled now`,
    hint: `wait for its session to end, or cancel it first with pawl node reinstall ${name} --cancel`,
  }
}

/** A node of a campaign with a limit is not taken out of it by the way: the limit would not hold. */
function placeFault({ name }: NodeRow, place: LivePlace | undefined, campaign: boolean): Fault | undefined {
  if (place === undefined || place.maxParallel === null) return undefined
  if (place.state === 'active' && !campaign) return undefined
  return {
    reason: `node "${name}" ${place.state === 'waiting' ? 'waits in' : 'is in'} reinstall ${place.campaign}`,
    hint: `see it with pawl reinstall show ${place.campaign}; take the node out with pawl node reinstall ${name} --cancel`,
  }
}

/** Plans cancels. Of nodes selected by a pattern or a label, those without a mark stay as they are; one that was named must have one. */
export async function planCancels(
  change: Change,
  rows: readonly NodeRow[],
  { nodes }: ReinstallRequest,
): Promise<Step[]> {
  const places = await findLivePlaces(
    change.tx,
    rows.map((row) => row.id),
  )
  return carry(rows, places, (node, place) => planCancel(node, place, nodes !== undefined))
}

function planCancel(node: NodeRow, place: LivePlace | undefined, named: boolean): PlannedNode | Fault {
  const { name, reinstall: before } = node
  const after = next(reinstallTransitions, before, 'cancel')
  if (place?.state === 'waiting') return { name, before, after: after ?? before, waits: false }
  if (after === undefined && named) {
    return { reason: `node "${name}" is not marked for reinstall`, hint: 'there is nothing to cancel' }
  }
  const warning = `session ${node.reinstall_session} is reinstalling it now and goes on; pawl node disable stops it`
  return { name, before, after: after ?? before, ...(before === 'serving' ? { warning } : {}) }
}

function carry(
  rows: readonly NodeRow[],
  places: ReadonlyMap<string, LivePlace>,
  plan: (node: NodeRow, place: LivePlace | undefined) => PlannedNode | Fault,
): Step[] {
  const steps: Step[] = []
  const faults: Fault[] = []
  for (const node of rows) {
    const place = places.get(node.id)
    const shown = plan(node, place)
    if ('hint' in shown) faults.push(shown)
    else steps.push({ node, shown, place })
  }
  if (faults.length > 0) throw conflictOf(faults, rows.length)
  return steps
}

const listedFaults = 5

function conflictOf(faults: readonly Fault[], of: number): PawlError {
  const listed = faults.slice(0, listedFaults).map((fault) => fault.reason)
  const more = faults.length > listed.length ? `; and ${faults.length - listed.length} more` : ''
  const count = of === 1 ? '' : `${faults.length} of ${of} nodes stand against it, so nothing was changed: `
  return new PawlError('conflict', `${count}${listed.join('; ')}${more}`, { hint: faults[0]?.hint ?? '' })
}
