import type { TimedStage, UsualTime } from './usual-times.ts'

/** How a boot that is under way comes along: as usual, slower than that, or not at all. */
export const paces = ['usual', 'slow', 'stuck'] as const
export type Pace = (typeof paces)[number]

/** When a stage is slow and when it is stuck, in seconds since it was opened. */
export interface StageLimits {
  /** The profile's own word, or the median of the last boots; null where neither is known. */
  readonly usualSeconds: number | null
  readonly slowAfterSeconds: number
  readonly stuckAfterSeconds: number
  /** Where they come from. */
  readonly from: 'profile' | 'learned' | 'default'
}

/** How far beyond what is usual a boot may be; of the settings. */
export interface PaceSettings {
  /** Slow beyond so many percent of the p99 of the last boots. */
  readonly slowPercent: number
  /** Stuck beyond so many percent of the time after which it is slow. */
  readonly stuckPercent: number
  /** Stuck when it is slow, and was silent for so long. */
  readonly stuckSilenceSeconds: number
}

/** Until enough boots were seen: a slow line must not raise an alarm on the first day. */
export const defaultSeconds: Readonly<Record<TimedStage, number>> = {
  stage1: 600,
  stage2: 1800,
  stage3: 900,
  join: 900,
}

/** A stage of seconds must not be called slow for a few more. */
const leastMarginSeconds = 15

/** The limits of one stage: as the profile says, else as learned, else the defaults. */
export function limitsOf(
  stage: TimedStage,
  known: { readonly expected?: number | undefined; readonly learned?: UsualTime | undefined },
  settings: PaceSettings,
): StageLimits {
  const { expected, learned } = known
  const stuckAfter = (slow: number): number => round((slow * settings.stuckPercent) / 100)
  // What an operator wrote down has its margin in it.
  if (expected !== undefined)
    return {
      usualSeconds: expected,
      slowAfterSeconds: expected,
      stuckAfterSeconds: stuckAfter(expected),
      from: 'profile',
    }
  if (learned === undefined) {
    const slow = defaultSeconds[stage]
    return {
      usualSeconds: null,
      slowAfterSeconds: slow,
      stuckAfterSeconds: stuckAfter(slow),
      from: 'default',
    }
  }
  const { medianSeconds, p99Seconds } = learned
  const slow = round(Math.max((p99Seconds * settings.slowPercent) / 100, p99Seconds + leastMarginSeconds))
  return {
    usualSeconds: medianSeconds,
    slowAfterSeconds: slow,
    stuckAfterSeconds: stuckAfter(slow),
    from: 'learned',
  }
}

function round(seconds: number): number {
  return Math.round(seconds * 10) / 10
}

/** What is known of a stage that is open. */
export interface OpenStage {
  /** Since it was opened. */
  readonly seconds: number
  /** Since the last authenticated byte. */
  readonly silentSeconds: number
  /** Whether bytes of its download came lately and more are to come: that is slow at worst. */
  readonly moves: boolean
}

/** The pace of an open stage. */
export function paceOf(
  { seconds, silentSeconds, moves }: OpenStage,
  limits: Pick<StageLimits, 'slowAfterSeconds' | 'stuckAfterSeconds'>,
  { stuckSilenceSeconds }: Pick<PaceSettings, 'stuckSilenceSeconds'>,
): Pace {
  if (seconds <= limits.slowAfterSeconds) return 'usual'
  if (moves) return 'slow'
  if (seconds > limits.stuckAfterSeconds || silentSeconds >= stuckSilenceSeconds) return 'stuck'
  return 'slow'
}
