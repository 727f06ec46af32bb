import type { BootContext } from '../boot/context.ts'
import { readPinned } from '../boot/pin.ts'
import type { StageLimits } from '../domain/pace.ts'
import type { StageName } from '../domain/stage.ts'
import { isTimed } from '../domain/usual-times.ts'
import type { SessionRow, SessionStageRow } from '../storage/tables.ts'
import { readPaceLimits } from './pace-limits.ts'
import { type PaceView, paceNow } from './paces.ts'

/** What is usual for a stage, beside what it took. */
export interface StagePace {
  /** Of the last boots the median, or what the profile states; null where neither is known, and for a report. */
  readonly usualSeconds: number | null
  /** When it is slow; null for a report, which takes no time. */
  readonly slowAfterSeconds: number | null
  readonly stuckAfterSeconds: number | null
  readonly usualFrom: StageLimits['from'] | null
}

const none: StagePace = {
  usualSeconds: null,
  slowAfterSeconds: null,
  stuckAfterSeconds: null,
  usualFrom: null,
}

/** The pace of a session's current stage, and what is usual for each. */
export interface TimelinePaces {
  readonly pace: PaceView | null
  readonly of: (stage: StageName) => StagePace
}

/** Looks at a session now. */
export async function timelinePaces(
  context: BootContext,
  node: string,
  session: SessionRow,
  opened: readonly SessionStageRow[],
): Promise<TimelinePaces> {
  const limits = await readPaceLimits(context.storage.db, context.settings)
  const { profile } = readPinned(session.pinned)
  const of = (stage: StageName): StagePace => {
    if (!isTimed(stage) || session.local === 1) return none
    const { from, ...times } = limits.of({ profile, sequence: session.sequence }, stage)
    return { ...times, usualFrom: from }
  }
  const current = opened.find(({ stage }) => stage === session.stage)
  if (current === undefined) return { pace: null, of }
  const watched = { node, session, openedAt: current.opened_at, bytes: Number(current.bytes) }
  return { pace: await paceNow(context, watched, limits, profile), of }
}
