/** When those who were sent away come again. */
export interface RetrySchedule {
  /** Takes note of a request that was served; `busy` where others waited, which is when the time it takes says what is possible. */
  served(busy: boolean): void
  /** Requests a second, as measured while others waited; undefined where that is not known. */
  servedPerSecond(): number | undefined
  /** The `Retry-After` of one who is sent away now, with so many in the queue. Whole seconds. */
  comeAgain(site: string, queued: number): number
}

interface ScheduleOptions {
  /** Seconds. */
  readonly now: () => number
  readonly random: () => number
  readonly maxSeconds: number
}

/** Until it was measured. Less than any machine does: who comes too late costs less than who comes too early. */
const assumedPerSecond = 50
/** The rest is for those who come for the first time, and for the stages of boots that go on. */
const shareForReturning = 0.8
const minSeconds = 2
const measureSeconds = 1
/** What was measured is not believed for longer. */
const measuredForSeconds = 300
const weightOfNewest = 0.4
const maxSites = 4096
const otherSites = 'others'

/**
 * Gives those who are sent away a time each, one behind the other as fast as they can be served: so `Retry-After` grows with how
 * many there are, and they come back at a rate that fits. Each site has a row of its own, at its part of the rate: who comes again
 * too early only pushes its own site back.
 */
export function openSchedule({ now, random, maxSeconds }: ScheduleOptions): RetrySchedule {
  /** The last time that was given out, by site. */
  const given = new Map<string, number>()
  let measured: { readonly perSecond: number; readonly at: number } | undefined
  let window: { readonly since: number; count: number } | undefined

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
      if (!busy) {
        window = undefined
        return
      }
      if (window === undefined) {
        window = { since: at, count: 0 }
        return
      }
      window.count += 1
      const seconds = at - window.since
      if (seconds < measureSeconds) return
      const before = servedPerSecond()
      const latest = window.count / seconds
      const perSecond = before === undefined ? latest : before + weightOfNewest * (latest - before)
      measured = { perSecond, at }
      window = undefined
    },
    comeAgain(site, queued) {
      const at = now()
      const rate = servedPerSecond() ?? assumedPerSecond
      const row = rowOf(site)
      let rows = 1
      for (const [name, time] of given) if (name !== row && time > at) rows += 1
      const earliest = at + Math.max(minSeconds, queued / rate)
      const time = Math.max(given.get(row) ?? 0, earliest) + rows / (rate * shareForReturning)
      given.set(row, Math.min(time, at + maxSeconds))
      const spread = (time - at) * (0.75 + random() / 2)
      // At the longest they would all come at one time again.
      return Math.ceil(spread < maxSeconds ? spread : maxSeconds * (0.75 + random() / 4))
    },
  }
}
