import type { Leave, LeaveHooks } from '../domain/leave.ts'
import type { LeavingRow, LeavingState } from '../storage/leaving-tables.ts'

/** A node on its way out, as operators see it. */
export interface LeavingView {
  readonly id: string
  readonly node: string
  readonly profile: string
  readonly state: LeavingState
  readonly hook: Leave['kind']
  /** `operator`: nobody reboots it but the operator. */
  readonly reboot: 'webhook' | 'operator'
  /** What it waits for; null where it waits for nothing. */
  readonly waitsFor: string | null
  /** Why it failed, or what could not be done. */
  readonly cause: string | null
  /** Whether it cannot be scheduled to because of this. */
  readonly cordoned: boolean
  /** Whether this marked the node for reinstall. */
  readonly marked: boolean
  readonly startedBy: string
  readonly startedAt: string
  readonly changedAt: string
  /** When the step that is under way is given up. */
  readonly deadline: string
  readonly endedAt: string | null
}

/** A row as it is shown. */
export function leavingView(row: LeavingRow): LeavingView {
  const hooks = JSON.parse(row.hooks) as LeaveHooks // our own column; its secrets stay sealed
  return {
    id: row.id,
    node: row.name,
    profile: row.profile,
    state: row.state,
    hook: hooks.leave?.kind ?? 'webhook',
    reboot: hooks.reboot === undefined ? 'operator' : 'webhook',
    waitsFor: row.waits_for,
    cause: row.cause,
    cordoned: row.cordoned === 1,
    marked: row.marked === 1,
    startedBy: row.started_by,
    startedAt: row.started_at,
    changedAt: row.changed_at,
    deadline: row.deadline,
    endedAt: row.ended_at,
  }
}
