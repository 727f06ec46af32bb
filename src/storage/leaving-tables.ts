/** Where a node stands on its way out of its cluster. */
export type LeavingState =
  | 'draining'
  | 'marked'
  | 'rebooting'
  | 'cancelling'
  | 'done'
  | 'failed'
  | 'cancelled'

/** A node that leaves its cluster to be reinstalled. */
export interface LeavingRow {
  id: string
  /** The node's id, and its name: it may be removed meanwhile. */
  node: string
  name: string
  profile: string
  /** The profile's hooks as they were at the start: JSON, their secrets sealed. */
  hooks: string
  state: LeavingState
  /** Counted up with each step: of two servers one goes on. */
  passes: number
  /** Whether the cluster scheduled nothing to it before; null before that was looked at. */
  was_unschedulable: number | null
  /** 1 while it is unschedulable because of us, as far as we know. */
  cordoned: number
  /** 1 from when it marked the node for reinstall. */
  marked: number
  /** What it waits for, in words. */
  waits_for: string | null
  /** Why it failed, or what could not be done. */
  cause: string | null
  /** Whether it is marked although its last reinstalls all failed. */
  forced: number
  started_by: string
  started_at: string
  changed_at: string
  next_at: string
  /** When the step that is under way is given up. */
  deadline: string
  ended_at: string | null
}
