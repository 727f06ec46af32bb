/** When those who were sent away come again. */
export interface RetrySchedule {
  /**
   * Takes note of a request that was served; `busy` where others waited, which is when the time it takes says what is possible. Where nobody
   * does, it says that at least so many are.
   */
  served(busy: boolean): void
  /** Requests a second, as measured while others waited; undefined where that is not known. */
  servedPerSecond(): number | undefined
  /**
   * The `Retry-After` of one who is sent away now, with so many in the queue. Whole seconds. Who was sent away before has a place in
   * the row already, which came too early: of so many (`again`) of its site that wait for theirs, itself too, it gets any.
   */
  comeAgain(site: string, queued: number, again?: number): number
}

interface ScheduleOptions {
  /** Seconds. */
  readonly now: () => number
  readonly random: () => number
  readonly maxSeconds: number
  /** How much of the rate is for those who come again: below 1 the rest is for others, above it more come than there is room for. */
  readonly shareForReturning: number
  /** A rate that is known otherwise to be possible. */
  readonly atLeastPerSecond?: () => number
}

/** Until it was measured. Less than any machine does: who comes too late costs less than who comes too early. */
const assumedPerSecond = 50
const minSeconds = 2
const measureSeconds = 1
/** What was measured is not believed for longer. */
const measuredForSeconds = 60
const weightOfNewest = 0.4
const maxSites = 4096
/** By so much those that have their times one behind the other come earlier or later, all in all. */
const maxSpreadSeconds = 8
const otherSites = 'others'

/**
 * Gives those who are sent away a time each, one behind the other as fast as they can be served: so `Retry-After` grows with how
 * many there are, and they come back at a rate that fits. Each site has a row of its own, at its part of the rate: who comes
 * again too early makes no row longer, and has any of the times that are left.
 */
export function openSchedule(options: ScheduleOptions): RetrySchedule {
  const { now, random, maxSeconds, shareForReturning, atLeastPerSecond = () => 0 } = options
  /** The last time that was given out, by site. */
  const given = new Map<string, number>()
  let measured: { readonly perSecond: number; readonly at: number } | undefined
  let window: { readonly since: number; count: number; readonly busy: boolean } | undefined

  function servedPerSecond(): number | undefined {
    if (measured !== undefined && now() - measured.at > measuredForSeconds) measured = undefined
    return measured?.perSecond
  }

  function rowOf(site: string): string {
    if (given.has(site) || given.size < maxSites) return site
    const at = now()
    for (const [name, time] of given) if (time < at) given.delete(name)
    return given.size < maxSites ? site : otherSites
  }

  return {
    servedPerSecond,
    served(busy) {
      const at = now()
      // Of an hour in which nobody came, or of a time in which now some waited and now nobody, nothing follows.
      if (window === undefined || window.busy !== busy || at - window.since > measuredForSeconds) {
        window = { since: at, count: 0, busy }
        return
      }
      window.count += 1
      const seconds = at - window.since
      if (seconds < measureSeconds) return
      const latest = window.count / seconds
      window = undefined
      const before = servedPerSecond()
      if (busy) {
        const perSecond = before === undefined ? latest : before + weightOfNewest * (latest - before)
        measured = { perSecond, at }
      }
      // What a standstill left: nobody may wait at such a rate, so that it would never be measured again.
      else if (before !== undefined && latest > before) measured = { perSecond: latest, at }
    },
    comeAgain(site, queued, again) {
      const at = now()
      const rate = Math.max(servedPerSecond() ?? assumedPerSecond, atLeastPerSecond())
      const earliest = Math.max(minSeconds, queued / rate)
      const row = again === undefined ? rowOf(site) : site
      let rows = 1
      for (const [name, time] of given) if (name !== row && time > at) rows += 1
      const each = rows / (rate * shareForReturning)
      if (again !== undefined) {
        const latest = Math.max(earliest, again * each)
        return within(earliest + random() * (latest - earliest))
      }
      const time = Math.max(given.get(row) ?? 0, at + earliest) + each
      given.set(row, Math.min(time, at + maxSeconds))
      const wait = time - at
      return within(wait, (random() - 0.5) * Math.min(wait / 2, maxSpreadSeconds))
    },
  }

  /** At the longest they would all come at one time again: a row that is so long is spread over a quarter of it. */
  function within(seconds: number, spread = 0): number {
    if (seconds < maxSeconds) return Math.ceil(Math.min(seconds + spread, maxSeconds))
    return Math.ceil(maxSeconds * (0.75 + random() / 4))
  }
}
