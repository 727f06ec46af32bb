import type { Logger } from 'pino'
import type { RefusalLog } from '../boot/refusal-log.ts'
import type { StorySteps } from '../boot/story.ts'
import { PawlError } from '../errors.ts'
import { answerAsk } from './answer.ts'
import { type Measured, openMeasuring } from './measure.ts'
import type { FromKeeper, FromWorker, SideName, Sides } from './messages.ts'
import { unpackError } from './packed-error.ts'
import { openWire, type Pipe, type Wire } from './wire.ts'

/**
 * The processes that serve machines. The keeper starts them, answers what they cannot (the story, where the database is a file
 * with one writer), tells them what changes, starts one that ends again, and lets all of them finish when it stops.
 *
 *   keeper ── begin, answers, cut, sides, drain ──▶ worker 1 … N     one channel each, in batches (wire.ts)
 *          ◀── ready, asks, refusals, pong ──
 *
 * A worker has nothing that is acknowledged and not durable: killing one loses its connections and nothing else. One that is
 * without its keeper ends at once (node:cluster sees to it): nobody would hear what its machines say.
 */
export interface Crew {
  /** Resolves when all of them listen; throws what one of them could not begin with. */
  start(): Promise<void>
  /** Cuts the downloads of a session in all of them. */
  cut(session: string): void
  /** Tells all of them what the listeners are now. */
  tellSides(): void
  /** Lets them finish; resolves when all have ended. */
  close(graceSeconds: number): Promise<void>
  /** As they are now, for who asks how the server is. */
  readonly members: () => readonly Member[]
  /** What each has counted; one that does not say it in time is left out. */
  measure(): Promise<readonly Measured[]>
  /** Calls back when one has ended, with how often it had been started again before. */
  onEnd(listener: (worker: number, restarts: number) => void): void
}

/** A worker, as it is now. */
export interface Member {
  readonly worker: number
  readonly processId: number | undefined
  readonly listens: boolean
  /** How often it was started again. */
  readonly restarts: number
}

/** A process that was started. */
export interface WorkerProcess extends Pipe {
  readonly id: number | undefined
  /** Called once, when it has ended. */
  onExit(listener: (how: { code: number | null; signal: string | null }) => void): void
  kill(): void
}

/** What a crew is made of. */
export interface CrewOptions<Setup> {
  readonly count: number
  readonly fork: (worker: number) => WorkerProcess
  /** What a worker begins with, as things are then. */
  readonly setup: (worker: number) => Setup
  readonly sides: () => Sides
  /** The story of a listener; undefined where that one is gone. */
  readonly story: (side: SideName) => StorySteps | undefined
  readonly refusals: Pick<RefusalLog, 'record'>
  readonly log: Logger
  /** Milliseconds, only forward. */
  readonly now: () => number
  readonly timings?: Partial<CrewTimings>
}

/** Milliseconds. */
export interface CrewTimings {
  /** The pause before a worker is started again that ended soon; it doubles up to the longest. */
  readonly firstPause: number
  readonly longestPause: number
  /** A worker that has lived so long did not end because of how it began. */
  readonly longLife: number
  /** A worker that does not listen by then is killed. */
  readonly mayBegin: number
  /** One whose event loop has not turned for so long is killed: its machines go to others. */
  readonly maySleep: number
  /** How long behind the grace it may take to end. */
  readonly mayEnd: number
  /** How often it is looked at. */
  readonly look: number
  /** How long it may take to say what it has counted. */
  readonly patience: number
}

const usualTimings: CrewTimings = {
  firstPause: 250,
  longestPause: 30_000,
  longLife: 30_000,
  mayBegin: 180_000,
  maySleep: 30_000,
  mayEnd: 3000,
  look: 1000,
  patience: 3000,
}

/** The place of a worker: its processes come and go. */
interface Place {
  readonly worker: number
  process: WorkerProcess | undefined
  wire: Wire<FromKeeper<unknown>> | undefined
  listens: boolean
  startedAt: number
  heardAt: number
  /** Ends soon after the start, in a row. */
  fails: number
  restarts: number
  pause: NodeJS.Timeout | undefined
}

/** Makes a crew; nothing runs before `start`. */
export function openCrew<Setup>(options: CrewOptions<Setup>): Crew {
  const { log, now, count } = options
  const timings = { ...usualTimings, ...options.timings }
  const places = Array.from({ length: count }, (_, index) => newPlace(index + 1))
  const measuring = openMeasuring(timings.patience)
  const whenEnded: ((worker: number, restarts: number) => void)[] = []
  let starting: { resolve(): void; reject(error: Error): void } | undefined
  let closing: (() => void) | undefined
  let timer: NodeJS.Timeout | undefined
  let lookedAt = 0

  function begin(place: Place): void {
    place.pause = undefined
    const forked = options.fork(place.worker)
    const wire: Wire<FromKeeper<unknown>> = openWire<FromKeeper<unknown>, FromWorker>(forked, (message) => {
      if (place.process === forked) take(place, wire, message)
    })
    Object.assign(place, { process: forked, wire, listens: false, startedAt: now(), heardAt: now() })
    forked.onExit((how) => {
      if (place.process === forked) ended(place, how)
    })
    wire.send({ kind: 'begin', setup: options.setup(place.worker) })
  }

  function take(place: Place, wire: Wire<FromKeeper<unknown>>, message: FromWorker): void {
    place.heardAt = now()
    if (message.kind === 'ask') void answerAsk(options, message).then((answer) => wire.send(answer))
    else if (message.kind === 'handshake-failed') options.story('main')?.handshakeFailed(message.fault)
    else if (message.kind === 'refusal') options.refusals.record(message.facts)
    else if (message.kind === 'failed') failed(place, unpackError(message.error))
    else if (message.kind === 'ready') listens(place)
    else if (message.kind === 'measured') measuring.take(place.worker, message.id, message.counts)
  }

  function listens(place: Place): void {
    place.listens = true
    if (starting === undefined) log.info({ worker: place.worker }, 'a worker serves again')
    if (places.every((one) => one.listens)) starting?.resolve()
  }

  function failed(place: Place, error: Error): void {
    if (starting !== undefined) starting.reject(error)
    else log.error({ err: error, worker: place.worker }, 'a worker cannot begin')
  }

  function ended(place: Place, { code, signal }: { code: number | null; signal: string | null }): void {
    const lived = now() - place.startedAt
    Object.assign(place, { process: undefined, wire: undefined, listens: false })
    measuring.ended(place.worker)
    for (const listener of whenEnded) listener(place.worker, place.restarts)
    if (closing !== undefined) {
      if (places.every((one) => one.process === undefined)) closing()
      return
    }
    if (starting !== undefined) {
      starting.reject(new PawlError('internal', `worker ${place.worker} ended before it listened`))
      return
    }
    place.fails = lived >= timings.longLife ? 0 : place.fails + 1
    place.restarts += 1
    // Once is an accident: its machines wait for it. What ends again and again must not burn a core.
    const pause =
      place.fails <= 1 ? 0 : Math.min(timings.firstPause * 2 ** (place.fails - 2), timings.longestPause)
    log.error(
      {
        worker: place.worker,
        code,
        signal,
        livedSeconds: Math.round(lived / 1000),
        pauseMilliseconds: pause,
      },
      'a worker ended; it is started again',
    )
    place.pause = setTimeout(() => begin(place), pause)
  }

  /** Ends who does not begin, or does not turn any more. */
  function look(): void {
    // This process itself did not turn, or the machine slept: what the workers said meanwhile is still to be read.
    const slept = now() - lookedAt > timings.maySleep / 2
    lookedAt = now()
    if (slept) for (const place of places) place.heardAt = lookedAt
    for (const place of places) {
      const { process: forked, wire, worker } = place
      if (forked === undefined || wire === undefined) continue
      const quiet = now() - place.heardAt
      const allowed = place.listens ? timings.maySleep : timings.mayBegin
      if (quiet > allowed) {
        log.error(
          { worker, quietSeconds: Math.round(quiet / 1000) },
          'a worker says nothing any more: it is killed',
        )
        forked.kill()
      } else if (place.listens) wire.send({ kind: 'ping' })
    }
  }

  function tellAll(message: FromKeeper<unknown>): void {
    for (const { wire } of places) wire?.send(message)
  }

  function stop(): void {
    clearInterval(timer)
    for (const place of places) clearTimeout(place.pause)
  }

  return {
    async start() {
      lookedAt = now()
      timer = setInterval(look, timings.look).unref()
      try {
        await new Promise<void>((resolve, reject) => {
          starting = { resolve, reject }
          for (const place of places) begin(place)
        })
      } finally {
        starting = undefined
      }
    },
    cut: (session) => tellAll({ kind: 'cut', session }),
    tellSides: () => tellAll({ kind: 'sides', sides: options.sides() }),
    async close(graceSeconds) {
      stop()
      const all = new Promise<void>((resolve) => {
        closing = resolve
      })
      tellAll({ kind: 'drain', graceSeconds })
      if (places.every(({ process }) => process === undefined)) closing?.()
      const late = setTimeout(
        () => {
          for (const { process } of places) process?.kill()
        },
        graceSeconds * 1000 + timings.mayEnd,
      )
      await all
      clearTimeout(late)
    },
    measure: () =>
      measuring.ask(
        places.flatMap(({ worker, restarts, wire, listens }) =>
          wire !== undefined && listens ? [{ worker, restarts, wire }] : [],
        ),
      ),
    onEnd: (listener) => void whenEnded.push(listener),
    members: () =>
      places.map(({ worker, process, listens, restarts }) => ({
        worker,
        processId: process?.id,
        listens,
        restarts,
      })),
  }
}

function newPlace(worker: number): Place {
  return {
    worker,
    process: undefined,
    wire: undefined,
    listens: false,
    startedAt: 0,
    heardAt: 0,
    fails: 0,
    restarts: 0,
    pause: undefined,
  }
}
