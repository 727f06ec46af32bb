import type { News, NodeResult, Timed } from './plan.ts'

/** How long something took, in milliseconds. */
export interface Percentiles {
  readonly count: number
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly max: number
}

/** What the client processes have told, together. */
export class Totals {
  readonly times = new Map<Timed, number[]>()
  readonly failures = new Map<string, number>()
  readonly results: NodeResult[] = []
  bytes = 0
  retries = 0
  busy = 0
  busySeconds = 0
  powerCycles = 0
  begun = 0
  cpuSeconds = 0
  lagMilliseconds = 0
  /** How often a process told news while its loop had no time left, and how often in all. */
  saturated = 0
  told = 0
  busiestLoop = 0

  add(news: News): void {
    for (const [what, times] of Object.entries(news.times) as [Timed, number[]][]) {
      const all = this.times.get(what) ?? []
      this.times.set(what, all)
      for (const time of times) all.push(time)
    }
    for (const [kind, count] of Object.entries(news.failures))
      this.failures.set(kind, (this.failures.get(kind) ?? 0) + count)
    this.results.push(...news.results)
    this.bytes += news.bytes
    this.retries += news.retries
    this.busy += news.busy
    this.busySeconds += news.busySeconds
    this.powerCycles += news.powerCycles
    this.begun += news.begun
    this.cpuSeconds += news.cpuSeconds
    this.lagMilliseconds = Math.max(this.lagMilliseconds, news.lagMilliseconds)
    this.busiestLoop = Math.max(this.busiestLoop, news.busyLoop)
    this.told += 1
    if (news.busyLoop >= saturatedLoop) this.saturated += 1
  }

  get ready(): number {
    return this.results.filter(({ ready }) => ready).length
  }
}

/** A loop that is busier has work waiting all the time. */
const saturatedLoop = 0.95

/** The percentiles of times; exact, because all of them are kept. */
export function percentilesOf(times: readonly number[]): Percentiles {
  const sorted = Float64Array.from(times).sort()
  const at = (part: number): number => sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)] ?? 0
  return { count: sorted.length, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) }
}
