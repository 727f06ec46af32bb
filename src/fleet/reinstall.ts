import type { BootContext } from '../boot/context.ts'
import { parseLabels } from '../domain/node.ts'
import { next, nodeTransitions, type ReinstallState, reinstallTransitions } from '../domain/state.ts'
import { PawlError } from '../errors.ts'
import { listNodeNames, listProfiles, lockNodes, readProfile } from '../storage/fleet.ts'
import { updateNode } from '../storage/nodes.ts'
import type { NodeRow } from '../storage/tables.ts'
import { type By, type Change, change, noSuchNode } from './change.ts'
import { parseGlob } from './glob.ts'
import { readLabels } from './node-view.ts'

/** Which nodes, by exactly one of three ways, and what to do with their marks. */
export interface ReinstallRequest {
  readonly nodes?: readonly string[]
  /** A pattern of names. */
  readonly match?: string
  /** `KEY=VALUE`. */
  readonly label?: string
  /** Take the marks back. */
  readonly cancel?: boolean
  /** Say what would happen, and do nothing. */
  readonly dryRun?: boolean
}

/** What happens, or would happen, to one node. */
export interface PlannedNode {
  readonly name: string
  readonly before: ReinstallState
  readonly after: ReinstallState
  readonly warning?: string
}

/** The whole plan. `applied` is false for a dry run. */
export interface ReinstallPlan {
  readonly nodes: readonly PlannedNode[]
  readonly applied: boolean
}

/**
 * Marks nodes for reinstall, or takes their marks back: all of them or none, in one transaction. Throws `conflict`
 * naming the nodes that cannot be; `not-found` where one is not there, or none is meant.
 */
export async function reinstall(
  context: BootContext,
  by: By,
  request: ReinstallRequest,
): Promise<ReinstallPlan> {
  const select = selectionOf(request)
  return change(context, by, async (change) => {
    const rows = await lockSelected(change, select)
    const steps = await plan(change, rows, request)
    if (request.dryRun !== true) {
      for (const step of steps) await (request.cancel === true ? cancel(change, step) : mark(change, step))
    }
    return { nodes: steps.map((step) => step.shown), applied: request.dryRun !== true }
  })
}

type Selection = { readonly names: readonly string[] } | { readonly wanted: (row: Named) => boolean }
type Named = Pick<NodeRow, 'name' | 'labels'>

function selectionOf({ nodes, match, label }: ReinstallRequest): Selection {
  if ([nodes, match, label].filter((way) => way !== undefined).length !== 1) {
    throw new PawlError('invalid', 'say which nodes by exactly one of nodes, match and label')
  }
  if (nodes !== undefined) return { names: [...new Set(nodes)] }
  if (match !== undefined) {
    const fits = parseGlob(match)
    return { wanted: (row) => fits(row.name) }
  }
  const [key, value] = parseLabel(label ?? '')
  return { wanted: (row) => readLabels(row.labels)[key] === value }
}

/** Reads `KEY=VALUE`; throws `invalid`. */
export function parseLabel(text: string): [string, string] {
  const at = text.indexOf('=')
  const [key, value] = at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)]
  parseLabels({ [key]: value })
  return [key, value]
}

async function lockSelected({ tx, context }: Change, select: Selection): Promise<NodeRow[]> {
  const names =
    'names' in select ? select.names : (await listNodeNames(tx)).filter(select.wanted).map((row) => row.name)
  const rows = await lockNodes(tx, context.storage.dialect, names)
  if ('names' in select) {
    const missing = names.find((name) => !rows.some((row) => row.name === name))
    if (missing !== undefined) throw noSuchNode(missing)
  }
  if (rows.length === 0) throw new PawlError('not-found', 'no node matches')
  return rows
}

interface Step {
  readonly node: NodeRow
  readonly shown: PlannedNode
}

async function plan(change: Change, rows: readonly NodeRow[], request: ReinstallRequest): Promise<Step[]> {
  const named = request.nodes !== undefined
  const installable = await profilesWithReinstall(change)
  const steps: Step[] = []
  const faults: Fault[] = []
  for (const node of rows) {
    const shown = request.cancel === true ? planCancel(node, named) : planMark(node, installable)
    if ('hint' in shown) faults.push(shown)
    else steps.push({ node, shown })
  }
  if (faults.length > 0) throw conflictOf(faults, rows.length)
  return steps
}

interface Fault {
  readonly reason: string
  readonly hint: string
}

function planMark(node: NodeRow, installable: ReadonlySet<string>): PlannedNode | Fault {
  const { name, reinstall: before, profile } = node
  const who = `node "${name}"`
  if (node.state === 'disabled')
    return { reason: `${who} is disabled`, hint: `enable it with pawl node enable ${name}` }
  if (profile === null)
    return { reason: `${who} has no profile`, hint: `give it one with pawl node set ${name} --profile P` }
  if (!installable.has(profile)) {
    return {
      reason: `${who} has profile "${profile}", which has no reinstall sequence`,
      hint: `add one to the profile, or give ${name} another`,
    }
  }
  const after = next(reinstallTransitions, before, 'mark')
  if (after !== undefined) return { name, before, after }
  return {
    reason: `${who} is being reinstalled now`,
    hint: `wait for its session to end, or cancel it first with pawl node reinstall ${name} --cancel`,
  }
}

/** Of nodes selected by a pattern or a label, those without a mark stay as they are; one that was named must have one. */
function planCancel(node: NodeRow, named: boolean): PlannedNode | Fault {
  const { name, reinstall: before } = node
  const after = next(reinstallTransitions, before, 'cancel')
  if (after === undefined && named) {
    return { reason: `node "${name}" is not marked for reinstall`, hint: 'there is nothing to cancel' }
  }
  return {
    name,
    before,
    after: after ?? before,
    ...(before === 'serving'
      ? {
          warning: `session ${node.reinstall_session} is reinstalling it now and goes on; pawl node disable stops it`,
        }
      : {}),
  }
}

const listedFaults = 5

function conflictOf(faults: readonly Fault[], of: number): PawlError {
  const listed = faults.slice(0, listedFaults).map((fault) => fault.reason)
  const more = faults.length > listed.length ? `; and ${faults.length - listed.length} more` : ''
  const count = of === 1 ? '' : `${faults.length} of ${of} nodes stand against it, so nothing was changed: `
  return new PawlError('conflict', `${count}${listed.join('; ')}${more}`, { hint: faults[0]?.hint ?? '' })
}

async function profilesWithReinstall({ tx }: Change): Promise<ReadonlySet<string>> {
  const rows = await listProfiles(tx)
  return new Set(rows.filter((row) => readProfile(row).reinstall !== undefined).map((row) => row.name))
}

/** Marks a node: attempts begin again, a held node is let go, and the next boot needs no other word of an operator. */
async function mark(change: Change, { node, shown }: Step): Promise<void> {
  await update(change, node, { reinstall: shown.after, reinstall_attempts: 0, armed: 1 })
  await change.note('reinstall-marked', node.name, {
    before: shown.before,
    attemptsBefore: node.reinstall_attempts,
  })
}

/** Takes a mark back. A node that was held for its reinstall is let go: it was an operator who gave that up. */
async function cancel(change: Change, { node, shown }: Step): Promise<void> {
  if (shown.before === shown.after) return
  await update(change, node, { reinstall: shown.after, reinstall_attempts: 0 })
  await change.note('reinstall-cancelled', node.name, {
    before: shown.before,
    session: node.reinstall_session,
  })
}

async function update(
  change: Change,
  node: NodeRow,
  to: Pick<NodeRow, 'reinstall' | 'reinstall_attempts'> & { armed?: number },
): Promise<void> {
  const released = next(nodeTransitions, node.state, 'release')
  await updateNode(change.tx, node.id, {
    ...to,
    reinstall_session: null,
    updated_at: change.now.toISOString(),
    ...(released === undefined ? {} : { state: released }),
  })
  if (released === undefined) return
  await change.note('node-changed', node.name, { before: { state: node.state }, after: { state: released } })
}
