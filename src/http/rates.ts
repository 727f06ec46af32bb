import type { WorkKind } from '../domain/load.ts'
import { openSchedule } from './retry-schedule.ts'

/**
 * How fast boots begin, and how fast the requests of those that have begun are served: a new boot waits for the others, so each has a
 * rate and a row of those who come again of its own.
 */
export interface Rates {
  /** Takes note of a request that was served; `busy` where others of its kind waited. */
  served(kind: WorkKind, busy: boolean): void
  /** Requests of this kind a second; undefined where it is not known. */
  perSecond(kind: WorkKind): number | undefined
  /** All requests a second; null where none is known. */
  inAll(): number | null
  /** The `Retry-After` of one who is sent away, see `RetrySchedule`. */
  comeAgain(kind: WorkKind, site: string, queued: number, again: number | undefined): number
}

interface RatesOptions {
  /** Seconds. */
  readonly now: () => number
  readonly random: () => number
  readonly maxSeconds: number
}

/** What comes behind a stage 1, more or less: seven downloads and HEADs, handover, stage 2, stage 3, join and report. */
const requestsOfBoot = 12
/**
 * Of new boots more come again than there is room for: one that is sent away once more costs a millisecond, and those that are late leave
 * the server idle. Of boots that have begun fewer, because others of them come for the first time.
 */
const share = { new: 1.25, begun: 0.8 }

/** Nothing served yet. */
export function openRates(options: RatesOptions): Rates {
  const begun = openSchedule({ ...options, shareForReturning: share.begun })
  const atLeastPerSecond = (): number => (begun.servedPerSecond() ?? 0) / requestsOfBoot
  const schedules = {
    new: openSchedule({ ...options, shareForReturning: share.new, atLeastPerSecond }),
    begun,
  }
  const of = (kind: WorkKind) => schedules[kind === 'new' ? 'new' : 'begun']
  return {
    served: (kind, busy) => of(kind).served(busy),
    perSecond: (kind) => of(kind).servedPerSecond(),
    inAll() {
      const known = Object.values(schedules).flatMap((schedule) => schedule.servedPerSecond() ?? [])
      return known.length === 0 ? null : known.reduce((sum, rate) => sum + rate, 0)
    },
    comeAgain: (kind, site, queued, again) => of(kind).comeAgain(site, queued, again),
  }
}
