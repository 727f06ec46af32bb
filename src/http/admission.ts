import type { WorkKind } from '../domain/load.ts'
import { PawlError } from '../errors.ts'
import { openCount } from './count.ts'
import { type Download, type DownloadLimits, openDownloads } from './downloads.ts'
import { type FairQueue, openFairQueue, type Place } from './fair-queue.ts'
import { whoGivesWay, whoGivesWayOf } from './giving-way.ts'
import { openKindTurns } from './kind-turns.ts'
import { openRates } from './rates.ts'

/**
 * How many boot requests are worked on at a time. A data centre that gets its power back asks at once; whoever comes beyond the
 * bound waits in a queue, and beyond that one is told when to come again (503, `Retry-After`, which iPXE and our agents honour).
 *
 *   report   waits for its turn, first of all, but has every second turn at most; sent away only where more wait than there
 *            are machines
 *   running  handover, stage 2, stage 3, join: finishing a boot is better than beginning one
 *   new      stage 1 and enrolment; where downloads wait, as many as boots that have begun leave room for, and not for long
 *   download opening one; apart, so that it keeps no other stage waiting
 *
 * Within each kind sites take turns. No kind starves: one that was passed over often enough has the next turn, so that a flood
 * of made-up tokens does not stop new boots (`kind-turns.ts`).
 */
export interface Admission {
  /** Resolves when the work may begin, to what says that it is over; call it once. Throws `overloaded`. */
  enter(request: AdmissionRequest): Promise<() => void>
  /** Counts a download while its bytes are sent; throws `overloaded`. Call the answer when it is over. */
  beginDownload(of: Download): () => void
  readonly stats: () => AdmissionStats
}

/** Who asks. */
export interface AdmissionRequest {
  readonly kind: WorkKind
  readonly site: string
  /** Where its node was told to come again and has not been let in since: how many nodes there are of which that is true. */
  readonly again?: number | undefined
  /** Calls `leave` when the client has gone, until the answer is called: its place is free then. */
  readonly onGone?: (leave: () => void) => () => void
}

/** Bounds of one process. */
export interface AdmissionLimits extends DownloadLimits {
  /** Requests worked on at a time; as many downloads may be opened at a time again. */
  readonly maxBootWork: number
  /** Requests that wait. Reports are not counted. */
  readonly maxBootQueue: number
  /** No request waits longer. Proxies and clients give up behind 60 s. */
  readonly maxBootWaitSeconds: number
  /** The longest `Retry-After`. */
  readonly maxRetryAfterSeconds: number
}

/** What it does, in numbers. */
export interface AdmissionStats {
  readonly working: number
  readonly waiting: number
  readonly longestWaitSeconds: number
  readonly servedPerSecond: number | null
  readonly admitted: number
  readonly waited: number
  readonly waitedSeconds: number
  readonly toldToWait: number
  readonly toldToWaitBy: Readonly<Record<WorkKind, number>>
  readonly sites: number
  readonly downloads: number
}

/** What it is made of. */
export interface AdmissionOptions {
  readonly limits: AdmissionLimits
  /** Seconds of a clock that only runs forward. */
  readonly now?: () => number
  readonly random?: () => number
  /** How late the event loop is, in seconds: work that cannot be got round to is not begun. */
  readonly lagSeconds?: () => number
}

interface Waiter {
  readonly request: AdmissionRequest
  readonly since: number
  readonly begin: () => void
  readonly sendAway: () => void
}

/** Anyone can make up what looks like one. */
const maxWaitingReports = 20_000
const sweepMilliseconds = 250
/** iPXE and its scripts come again by themselves. Fixed: who waits for longer only keeps a connection open. */
const maxNewWaitSeconds = 2
/** Twice as many as a boot has, downloads and HEADs: so those that wait become fewer, though boots go on beginning. */
const downloadsForOneNew = 16
/** No download was opened for so long: the store is slow, and no reason to wait. */
const standsStillSeconds = 0.5
/** A loop that is later than this has more in its hands than it gets done. */
const lateSeconds = 0.25

/** Opens the gate of one process. */
export function openAdmission(options: AdmissionOptions): Admission {
  const { limits, now = () => performance.now() / 1000, random = Math.random, lagSeconds = () => 0 } = options
  /** How many wait of each site, but for reports. */
  const waitOf = openCount()
  const lanes: Record<WorkKind, FairQueue<Waiter>> = {
    report: openFairQueue(),
    running: openFairQueue(waitOf),
    new: openFairQueue(waitOf),
    download: openFairQueue(waitOf),
  }
  const turnOf = openKindTurns()
  const toldToWaitBy: Record<WorkKind, number> = { report: 0, running: 0, new: 0, download: 0 }
  const rates = openRates({ now, random, maxSeconds: limits.maxRetryAfterSeconds })
  const downloads = openDownloads(limits, now)
  let [working, opening] = [0, 0]
  let openedAt = Number.NEGATIVE_INFINITY
  let openedSinceNew = 0
  let [admitted, waited, waitedSeconds, toldToWait] = [0, 0, 0, 0]
  let timer: NodeJS.Timeout | undefined

  const queued = (): number => lanes.running.length() + lanes.new.length() + lanes.download.length()
  const waiting = (): number => queued() + lanes.report.length()
  /** Those who wait for the same as a request of this kind. */
  const waitingWith = (kind: WorkKind): number =>
    kind === 'new' ? lanes.new.length() : waiting() - lanes.new.length()
  const longestWait = (kind: WorkKind): number =>
    kind === 'new' ? Math.min(limits.maxBootWaitSeconds, maxNewWaitSeconds) : limits.maxBootWaitSeconds

  /** Late, only what is needed to keep the database busy is begun: the rest would wait in memory for the processor. */
  function maxWork(): number {
    const lag = lagSeconds()
    if (lag < lateSeconds) return limits.maxBootWork
    const part = limits.maxBootWork / (lag < 4 * lateSeconds ? 2 : 4)
    return Math.max(Math.min(8, limits.maxBootWork), Math.floor(part))
  }

  function hasRoom(kind: WorkKind): boolean {
    if (kind === 'download') return opening < limits.maxBootWork
    return working < maxWork() && !(kind === 'new' && givesWay())
  }

  /** Where downloads wait, most boots that have begun do: one more begins for some of them, unless what they wait for stands still. */
  function givesWay(): boolean {
    return (
      lanes.download.length() > 0 &&
      openedSinceNew < downloadsForOneNew &&
      now() - openedAt < standsStillSeconds
    )
  }

  function begin(kind: WorkKind): () => void {
    admitted += 1
    if (kind === 'download') {
      opening += 1
      openedSinceNew += 1
      openedAt = now()
    } else working += 1
    if (kind === 'new') openedSinceNew = 0
    let over = false
    return () => {
      if (over) return
      over = true
      if (kind === 'download') opening -= 1
      else working -= 1
      rates.served(kind, waitingWith(kind) > 0)
      next()
    }
  }

  function next(): void {
    for (let lane = nextLane(); lane !== undefined; lane = nextLane()) lanes[lane].take()?.begin()
    if (waiting() === 0) stopTimer()
  }

  /** Whose turn it is, of those that have room and someone who waits. */
  function nextLane(): WorkKind | undefined {
    if (lanes.download.length() > 0 && hasRoom('download')) return 'download'
    if (!hasRoom('running')) return undefined
    return turnOf((kind) => lanes[kind].length() > 0 && !(kind === 'new' && givesWay()))
  }

  function overloaded({ kind, site, again }: Omit<AdmissionRequest, 'onGone'>): PawlError {
    toldToWait += 1
    toldToWaitBy[kind] += 1
    return new PawlError('overloaded', 'the server is busy: come again as Retry-After says', {
      retryAfterSeconds: rates.comeAgain(kind, site, waitingWith(kind), again),
    })
  }

  /** Makes a place for who comes, at the cost of a site that has more in the queue. Reports have a bound of their own. */
  function makePlace({ kind, site }: AdmissionRequest): boolean {
    const isReport = kind === 'report'
    if (isReport ? lanes.report.length() < maxWaitingReports : queued() < limits.maxBootQueue) return true
    const found = isReport ? whoGivesWayOf(lanes.report, site) : whoGivesWay({ lanes, waitOf }, kind, site)
    if (found !== undefined) sendAway(found)
    return found !== undefined
  }

  function sendAway(place: Place<Waiter>): void {
    lanes[place.item.request.kind].leave(place)
    place.item.sendAway()
  }

  /** Whether its turn would come too late, as fast as it goes now: then it is told at once, and not when it has waited. */
  function wouldWaitTooLong({ kind, site }: AdmissionRequest): boolean {
    const rate = rates.perSecond(kind)
    if (kind === 'report' || rate === undefined) return false
    const lane = lanes[kind]
    const ahead = (lane.lengthOf(site) + 1) * Math.max(1, lane.sites())
    return Math.min(ahead, waitingWith(kind) + 1) / rate > longestWait(kind)
  }

  function enter(request: AdmissionRequest): Promise<() => void> {
    const { kind, site } = request
    if (lanes[kind].length() === 0 && hasRoom(kind)) return Promise.resolve(begin(kind))
    if (wouldWaitTooLong(request) || !makePlace(request)) return Promise.reject(overloaded(request))
    return new Promise((resolve, reject) => {
      const since = now()
      const left = (): void => stopWatching?.()
      const waiter: Waiter = {
        request,
        since,
        begin: () => {
          left()
          waited += 1
          waitedSeconds += now() - since
          resolve(begin(kind))
        },
        sendAway: () => {
          left()
          reject(overloaded(request))
        },
      }
      const place = lanes[kind].push(site, waiter)
      // Nobody is there to be told: the promise stays as it is.
      const stopWatching = request.onGone?.(() => {
        if (!place.waiting) return
        lanes[kind].leave(place)
        left()
      })
      timer ??= setInterval(sweep, sweepMilliseconds).unref()
    })
  }

  /** Who has waited as long as anyone may is told to come again; and the loop may be less late than it was. */
  function sweep(): void {
    for (const kind of ['running', 'new', 'download'] as const) {
      const latest = now() - longestWait(kind)
      for (const first of lanes[kind].oldest()) {
        let place: Place<Waiter> | undefined = first
        while (place !== undefined && place.item.since <= latest) {
          const behind: Place<Waiter> | undefined = place.behind
          sendAway(place)
          place = behind
        }
      }
    }
    next()
  }

  function stopTimer(): void {
    clearInterval(timer)
    timer = undefined
  }

  function beginDownload(download: Download): () => void {
    const over = downloads.begin(download)
    const { session, site } = download
    // A session that has more than it may have makes no row of its site longer; addresses that anyone can have make none.
    if (over === undefined)
      throw overloaded({ kind: 'download', site: session === undefined ? site : `session ${session}` })
    return over
  }

  function longestWaitSeconds(): number {
    const all = Object.values(lanes).flatMap((lane) => lane.oldest())
    return all.length === 0 ? 0 : now() - Math.min(...all.map(({ item }) => item.since))
  }

  return {
    enter,
    beginDownload,
    stats: () => ({
      working: working + opening,
      waiting: waiting(),
      longestWaitSeconds: longestWaitSeconds(),
      servedPerSecond: rates.inAll(),
      admitted,
      waited,
      waitedSeconds,
      toldToWait,
      toldToWaitBy: { ...toldToWaitBy },
      sites: new Set(Object.values(lanes).flatMap((lane) => lane.oldest().map(({ site }) => site))).size,
      downloads: downloads.count(),
    }),
  }
}
