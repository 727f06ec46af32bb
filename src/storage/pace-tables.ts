import type { Pace } from '../domain/pace.ts'
import type { PaceCode } from '../domain/pace-reason.ts'
import type { SequenceName } from '../domain/profile.ts'
import type { TimedStage } from '../domain/usual-times.ts'

/** Rows about how long boots take. Times and booleans as in `tables.ts`; durations are seconds. */

/** A boot that ended well: what usual times are learned from. The last ones of each profile and sequence are kept. */
export interface BootTimesRow {
  session: string
  profile: string
  sequence: SequenceName
  node: string
  /** The id of the event that ended it: their order. */
  event: number
  stage1: number | null
  stage2: number | null
  stage3: number | null
  join: number | null
}

/** What is usual, as learned. */
export interface UsualTimeRow {
  profile: string
  sequence: SequenceName
  stage: TimedStage
  median_seconds: number
  p99_seconds: number
  boots: number
  learned_at: string
}

/** Up to which event boots were looked at; one row. */
export interface BootTimesReadRow {
  id: 1
  event: number
}

/** A stage of a session that was slow or stuck: when that was told first, and how it is now. */
export interface SessionPaceRow {
  session: string
  stage: TimedStage
  pace: Pace
  code: PaceCode
  slow_at: string | null
  stuck_at: string | null
}
