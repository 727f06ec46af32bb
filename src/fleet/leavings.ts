import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import { defaultTimeoutSeconds, type Leave } from '../domain/leave.ts'
import { isPawlError, PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import { findProfile, readProfile } from '../storage/fleet.ts'
import type { LeavingRow } from '../storage/leaving-tables.ts'
import { findLeaving, insertLeaving, stepLeaving } from '../storage/leavings.ts'
import { findNode, type NodeRecord } from '../storage/nodes.ts'
import { type By, type Change, change, noSuchNode } from './change.ts'
import { openHooks, openLeaving, sealLeaving } from './leave-settings.ts'
import { type LeavingView, leavingView } from './leaving-view.ts'
import { lock } from './nodes.ts'
import { takeBack } from './reinstall.ts'
import { planCancels, planMarks } from './reinstall-plan.ts'

/**
 * A node leaves its cluster to be reinstalled: draining, marked, rebooting, done. What is asked for is a row; the leader does the steps
 * (`src/leaving`), and carries on after a kill.
 */

/**
 * Begins: everything that stands against a reinstall is found now. Asked again while it is under way, it is the same one. Throws
 * `not-found`, and `conflict` where the profile has no leave hook.
 */
export function startLeaving(
  context: BootContext,
  by: By,
  name: string,
  { force = false }: { readonly force?: boolean | undefined } = {},
): Promise<LeavingView> {
  return change(context, by, async (change) => {
    const node = await lock(change, name)
    const before = await findLeaving(change.tx, node.id)
    if (before?.state === 'cancelling')
      throw new PawlError('conflict', `node "${name}" is being made schedulable again`, {
        hint: 'wait a moment',
      })
    if (before !== undefined && before.ended_at === null) return leavingView(before)
    await planMarks(change, [node], { nodes: [name], force })
    const row = { ...(await freshLeaving(change, node, force)), ...takenOver(before, node) }
    await insertLeaving(change.tx, row)
    const view = leavingView(row)
    const { id, hook, reboot, profile } = view
    await change.note('leave-started', name, { id, profile, hook, reboot, deadline: row.deadline })
    return view
  })
}

/**
 * What an earlier try did and nobody took back is this one's to take back. One that is done had its reinstall, unless its mark is there still:
 * whether the node is schedulable is the operator's business from then on.
 */
function takenOver(
  before: LeavingRow | undefined,
  node: NodeRecord,
): Partial<Pick<LeavingRow, 'was_unschedulable' | 'cordoned' | 'marked'>> {
  if (before === undefined) return {}
  const marked = hasItsMark(before, node)
  const cordoned = before.cordoned === 1 && (before.state !== 'done' || marked)
  return { ...(marked ? { marked: 1 } : {}), ...(cordoned ? { was_unschedulable: 0, cordoned: 1 } : {}) }
}

function hasItsMark(row: LeavingRow, node: NodeRecord): boolean {
  return row.marked === 1 && node.reinstall === 'marked'
}

async function freshLeaving(
  { tx, now, context, by }: Change,
  node: NodeRecord,
  force: boolean,
): Promise<LeavingRow> {
  const stored = node.profile === null ? undefined : await findProfile(tx, node.profile)
  const hooks = stored === undefined ? {} : openHooks(readProfile(stored), context.sealer)
  if (stored === undefined || hooks.leave === undefined)
    throw new PawlError(
      'conflict',
      `profile "${node.profile}" of node "${node.name}" does not say how it leaves`,
      {
        hint: `give the profile "leave", or mark the node at once with pawl node reinstall ${node.name}`,
      },
    )
  const id = Buffer.from(context.randomBytes(9)).toString('base64url')
  const at = now.toISOString()
  return {
    id,
    node: node.id,
    name: node.name,
    profile: stored.name,
    hooks: sealLeaving(hooks, id, context.sealer),
    state: 'draining',
    passes: 0,
    was_unschedulable: null,
    cordoned: 0,
    marked: 0,
    waits_for: null,
    cause: null,
    forced: force ? 1 : 0,
    started_by: by.actor,
    started_at: at,
    changed_at: at,
    next_at: at,
    deadline: addSeconds(now, timeoutOf(hooks.leave)).toISOString(),
    ended_at: null,
  }
}

/** How long a hook may take. */
export function timeoutOf(hook: Leave): number {
  return hook.timeoutSeconds ?? defaultTimeoutSeconds[hook.kind]
}

const cancelSeconds = 600

/**
 * Takes it back: the mark, where the node has it still, and then its cluster schedules to it again, asked by the kubeconfig that the profile
 * has now. Also of one that failed, is done, or was cancelled in vain, as long as there is something to take back; throws `conflict` otherwise.
 */
export function cancelLeaving(context: BootContext, by: By, name: string): Promise<LeavingView> {
  return change(context, by, async (change) => {
    const node = await lock(change, name)
    const row = await findLeaving(change.tx, node.id)
    if (row === undefined) throw neverLeft(name)
    if (row.state === 'cancelling') return leavingView(row)
    const isMarked = hasItsMark(row, node)
    if (row.ended_at !== null && !isMarked && (row.cordoned === 0 || row.state === 'done'))
      throw new PawlError('conflict', `node "${name}": leaving is ${row.state}`, {
        hint: 'there is nothing to take back',
      })
    if (isMarked) await takeBack(change, await planCancels(change, [node], { nodes: [name] }))
    const at = change.now.toISOString()
    const uncordons = row.cordoned === 1
    const changes: Partial<LeavingRow> = {
      state: uncordons ? 'cancelling' : 'cancelled',
      marked: isMarked ? 0 : row.marked,
      hooks: uncordons ? await presentHooks(change, row) : row.hooks,
      ...{ waits_for: null, cause: null, changed_at: at, next_at: at },
      deadline: addSeconds(change.now, cancelSeconds).toISOString(),
      ended_at: uncordons ? null : at,
    }
    if (!(await stepLeaving(change.tx, row, changes)))
      throw new PawlError('conflict', `node "${name}" went on leaving at this moment`, {
        hint: 'cancel again',
      })
    await change.note('leave-cancelled', name, {
      id: row.id,
      before: row.state,
      markTaken: isMarked,
      uncordons,
    })
    return leavingView({ ...row, ...changes })
  })
}

/** The hooks with the kubeconfig as the profile says it by now; as they were, where it says none that can be read. */
async function presentHooks({ tx, context }: Change, row: LeavingRow): Promise<string> {
  const stored = await findProfile(tx, row.profile)
  if (stored === undefined) return row.hooks
  try {
    const { sealer } = context
    const { leave } = openHooks(readProfile(stored), sealer)
    if (leave?.kind !== 'kubernetes') return row.hooks
    return sealLeaving({ ...openLeaving(row.hooks, row.id, sealer), leave }, row.id, sealer)
  } catch (error) {
    if (isPawlError(error)) return row.hooks
    throw error
  }
}

/** The latest of a node; throws `not-found` where it has not left in the last thirty days. */
export async function showLeaving(db: Queries, name: string): Promise<LeavingView> {
  const node = await findNode(db, name)
  if (node === undefined) throw noSuchNode(name)
  const row = await findLeaving(db, node.id)
  if (row === undefined) throw neverLeft(name)
  return leavingView(row)
}

function neverLeft(name: string): PawlError {
  return new PawlError('not-found', `node "${name}" is not leaving its cluster, and did not of late`, {
    hint: `begin with pawl node drain-and-reinstall ${name}`,
  })
}
