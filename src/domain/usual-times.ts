import type { SequenceName } from './profile.ts'

/**
 * How long stages take. A stage lasts until the next one is opened; the last before a report until the report. What is usual is
 * stated by the profile, or learned from the last boots that ended well, or is a generous default until there are enough.
 *
 * Learned times must not be drawn out by whoever holds a few machines: each node has one vote in the median, gives no more than
 * its last few boots, and no boot counts for more than a multiple of the median. So p99 has a bound that most of the fleet sets.
 */

/** Stages that take a time; a report takes none. */
export const timedStages = ['stage1', 'stage2', 'stage3', 'join'] as const
export type TimedStage = (typeof timedStages)[number]

/** Whether a stage is one that takes a time. */
export function isTimed(stage: string): stage is TimedStage {
  return (timedStages as readonly string[]).includes(stage)
}

/** What a profile says of its stages, in seconds; a stage that is left out is learned. */
export type Expected = Readonly<Partial<Record<TimedStage, number>>>

/** The same for both sequences. */
export type ExpectedOf = Readonly<Record<SequenceName, Expected>>

/** One boot that ended well. */
export interface Sample {
  readonly node: string
  readonly seconds: number
}

/** What is usual, as learned. */
export interface UsualTime {
  readonly medianSeconds: number
  readonly p99Seconds: number
  /** How many boots it was learned from. */
  readonly boots: number
}

/** The last boots of a profile's sequence that are looked at. */
export const maxSamples = 200
/** Of these, the last so many of each node. */
export const maxSamplesOfNode = 5
/** Fewer say nothing. */
const minSamples = 5
/** No boot counts for more than so many times the median. */
const mostOfMedian = 6
/** Below this, jitter is most of what is measured. */
const leastSeconds = 1
/** A stage that takes longer is not usual, whatever was measured: a session ends after a day. */
const mostSeconds = 4 * 3600

/** Learns from the last boots, the newest first; undefined where they are too few to say anything. */
export function learn(samples: readonly Sample[]): UsualTime | undefined {
  const perNode = new Map<string, number[]>()
  for (const { node, seconds } of samples.slice(0, maxSamples)) {
    const own = perNode.get(node) ?? []
    if (own.length < maxSamplesOfNode && Number.isFinite(seconds) && seconds >= 0) own.push(seconds)
    perNode.set(node, own)
  }
  const all = [...perNode.values()].flat()
  if (all.length < minSamples) return undefined
  const votes = [...perNode.values()].filter((own) => own.length > 0).map((own) => percentile(own, 50))
  const medianSeconds = bounded(percentile(votes, 50))
  const most = medianSeconds * mostOfMedian
  const p99Seconds = bounded(
    percentile(
      all.map((seconds) => Math.min(seconds, most)),
      99,
    ),
  )
  // A node that boots fast and often has more samples than votes.
  return { medianSeconds, p99Seconds: Math.max(medianSeconds, p99Seconds), boots: all.length }
}

/** The value that so many percent are not above: of an even number of values the lower one in the middle. */
function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? 0
}

function bounded(seconds: number): number {
  return Math.min(mostSeconds, Math.max(leastSeconds, Math.round(seconds * 10) / 10))
}
