import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import type { EventFacts, EventKind } from '../domain/event.ts'
import type { LeaveHooks } from '../domain/leave.ts'
import { isPawlError } from '../errors.ts'
import { type Change, change } from '../fleet/change.ts'
import { openLeaving } from '../fleet/leave-settings.ts'
import { timeoutOf } from '../fleet/leavings.ts'
import { lock } from '../fleet/nodes.ts'
import { byServer } from '../fleet/operators.ts'
import { markIn } from '../fleet/reinstall.ts'
import type { LeavingRow } from '../storage/leaving-tables.ts'
import { isUnchanged, listDueLeavings, stepLeaving, trimLeavings } from '../storage/leavings.ts'
import { findNode, type NodeRecord } from '../storage/nodes.ts'
import { drainStep, uncordonStep } from './drain.ts'
import { hookStep } from './hook.ts'
import type { StepOutcome } from './outcome.ts'

/**
 * Takes each node that leaves its cluster one step further. Every step can be done twice, and what came of it is one conditional update: after
 * a kill, or beside another leader of a moment, the next step goes on from what the row and the cluster say.
 */
export async function tendLeavings(context: BootContext): Promise<void> {
  const { db } = context.storage
  const due = await listDueLeavings(db, context.clock(), dueAtOnce)
  const lane = async (): Promise<void> => {
    for (let row = due.shift(); row !== undefined; row = due.shift()) {
      const hold = row
      await stepAsRead(context, hold).catch((error: unknown) => giveUp(context, hold, error))
    }
  }
  await Promise.all(Array.from({ length: lanes }, lane))
  await trimLeavings(db, addSeconds(context.clock(), -keptSeconds))
}

const dueAtOnce = 200
/** Clusters that hang hold up no more than their lanes, for a minute at most. */
const lanes = 16
const keptSeconds = 30 * 86_400

/** A row may have waited long for its lane: one that was changed meanwhile has its step the next time. */
async function stepAsRead(context: BootContext, row: LeavingRow): Promise<void> {
  if (await isUnchanged(context.storage.db, row)) await step(context, row)
}

async function step(context: BootContext, row: LeavingRow): Promise<void> {
  const node = await findNode(context.storage.db, row.name)
  if (node === undefined || node.id !== row.node) return fail(context, row, 'the node was removed')
  const hooks = openLeaving(row.hooks, row.id, context.sealer)
  if (row.state === 'marked') return goOnFromMark(context, row, hooks)
  const outcome = await outcomeOf(context, row, node, hooks)
  if (outcome === undefined) return fail(context, row, 'it has no hook for this step')
  return settle(context, row, outcome, hooks)
}

async function outcomeOf(
  context: BootContext,
  row: LeavingRow,
  node: NodeRecord,
  { leave, reboot }: LeaveHooks,
): Promise<StepOutcome | undefined> {
  if (row.deadline <= context.clock().toISOString()) return { kind: 'failed', cause: lateCause(row) }
  if (row.state === 'cancelling')
    return leave?.kind === 'kubernetes' ? uncordonStep(context, row, leave) : { kind: 'done' }
  if (row.state === 'rebooting')
    return reboot && hookStep(context, row, node, { kind: 'reboot', hook: reboot })
  if (leave?.kind === 'kubernetes') return drainStep(context, row, leave)
  return leave && hookStep(context, row, node, { kind: 'leave', hook: leave })
}

function lateCause({ waits_for: waitsFor }: LeavingRow): string {
  return waitsFor === null ? 'it took too long' : `it took too long, waiting for ${waitsFor}`
}

async function settle(
  context: BootContext,
  row: LeavingRow,
  outcome: StepOutcome,
  hooks: LeaveHooks,
): Promise<void> {
  const now = context.clock()
  if (outcome.kind === 'overtaken') return
  if (outcome.kind === 'failed') return fail(context, row, outcome.cause)
  if (outcome.kind === 'done') return finishStep(context, row, hooks, outcome.changes ?? {})
  const changes =
    outcome.kind === 'again'
      ? { ...outcome.changes, next_at: now.toISOString() }
      : { waits_for: outcome.waitsFor, next_at: addSeconds(now, outcome.seconds).toISOString() }
  await stepLeaving(context.storage.db, row, { ...changes, changed_at: now.toISOString() })
}

async function finishStep(
  context: BootContext,
  row: LeavingRow,
  hooks: LeaveHooks,
  changes: Partial<LeavingRow>,
): Promise<void> {
  if (row.state === 'cancelling') return end(context, row, { ...changes, state: 'cancelled' })
  if (row.state === 'rebooting')
    return end(context, row, { state: 'done' }, 'leave-completed', { reboot: 'webhook' })
  return mark(context, row, hooks, changes)
}

/** The mark and the word that the node has left are one transaction: a drain that failed marks nothing, and no mark is lost. */
async function mark(
  context: BootContext,
  row: LeavingRow,
  { leave, reboot }: LeaveHooks,
  changes: Partial<LeavingRow>,
): Promise<void> {
  try {
    await change(context, byServer, async (change) => {
      const node = await lock(change, row.name)
      const seconds = reboot === undefined ? 0 : timeoutOf(reboot)
      const marked = {
        ...changes,
        ...({ state: 'marked', marked: 1, waits_for: null } as const),
        deadline: addSeconds(change.now, seconds).toISOString(),
      }
      if (!(await write(change, row, marked))) return
      await change.note('leave-drained', row.name, {
        id: row.id,
        hook: leave?.kind ?? null,
        seconds: Math.round((change.now.getTime() - Date.parse(row.started_at)) / 1000),
      })
      await markIn(change, node, { force: row.forced === 1 })
    })
  } catch (error) {
    if (!isPawlError(error, 'conflict') && !isPawlError(error, 'not-found')) throw error
    await fail(
      context,
      { ...row, ...changes },
      `it has left, and cannot be marked: ${error.message}`,
      changes,
    )
  }
}

async function goOnFromMark(context: BootContext, row: LeavingRow, { reboot }: LeaveHooks): Promise<void> {
  if (reboot === undefined)
    return end(context, row, { state: 'done' }, 'leave-completed', { reboot: 'operator' })
  const now = context.clock().toISOString()
  await stepLeaving(context.storage.db, row, { state: 'rebooting', changed_at: now, next_at: now })
}

/** A node that could not be made schedulable again is cancelled all the same; the cause tells what is left to do. */
async function fail(
  context: BootContext,
  row: LeavingRow,
  why: string,
  changes: Partial<LeavingRow> = {},
): Promise<void> {
  const cancelling = row.state === 'cancelling'
  const cause = cancelling ? `it may still be unschedulable: ${why}` : why
  const failed = { ...changes, state: cancelling ? 'cancelled' : 'failed', cause } as const
  const { state, cordoned } = row
  await end(context, row, failed, 'leave-failed', { before: state, cause, cordoned: cordoned === 1 })
}

async function end(
  context: BootContext,
  row: LeavingRow,
  changes: Partial<LeavingRow> & Pick<LeavingRow, 'state'>,
  kind?: EventKind,
  detail: EventFacts['detail'] = {},
): Promise<void> {
  await change(context, byServer, async (change) => {
    const ended = { ...changes, waits_for: null, ended_at: change.now.toISOString() }
    if (!(await write(change, row, ended)) || kind === undefined) return
    await change.note(kind, row.name, { id: row.id, ...detail })
  })
}

function write(change: Change, row: LeavingRow, changes: Partial<LeavingRow>): Promise<boolean> {
  const now = change.now.toISOString()
  return stepLeaving(change.tx, row, { ...changes, changed_at: now, next_at: now })
}

/** What another try does not mend ends this one node's leaving; what nobody thought of is told, and tried again until its time is over. */
async function giveUp(context: BootContext, row: LeavingRow, error: unknown): Promise<void> {
  context.onEffectError?.(error)
  if (isPawlError(error, 'storage-unavailable')) return
  const now = context.clock()
  if (isPawlError(error)) return fail(context, row, error.message)
  if (row.deadline <= now.toISOString())
    return fail(context, row, 'an internal error; the log of the server has its cause')
  await stepLeaving(context.storage.db, row, { next_at: addSeconds(now, afterErrorSeconds).toISOString() })
}

const afterErrorSeconds = 10
