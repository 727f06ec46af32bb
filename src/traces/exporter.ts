import type { Logger } from 'pino'
import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import type { TraceCounts } from '../domain/trace.ts'
import { settledId } from '../storage/commit-order.ts'
import {
  countEndings,
  type Ending,
  listEndings,
  moveTraceCursor,
  openTraceCursor,
} from '../storage/traces.ts'
import { type Judged, judge } from './judge.ts'
import type { TraceOutcome } from './send.ts'
import { type Span, spansOf } from './spans.ts'
import { readStory } from './story.ts'

/**
 * Exports each boot session once it has ended. The event log is the queue: nothing is written when a session ends, nothing waits in
 * memory, and a boot waits for nothing of this. A cursor in the database is moved behind what a collector took; a process that is
 * killed between the two sends it again, under the same ids. Of several servers the one that leads does it.
 *
 * While a collector does not answer the cursor stays, up to so many sessions and so many hours; what is beyond is given up,
 * the oldest first, and counted.
 */
export interface TraceExporter {
  /** Exports what is due. Does nothing while it waits before the next try. */
  work(): Promise<void>
  counts(): TraceCounts
  /** Cuts off what is being sent: it is sent again by the next start. */
  close(): Promise<void>
}

/** What an exporter needs beside the context. */
export interface TraceExporterOptions {
  readonly log: Pick<Logger, 'info' | 'warn'>
  readonly encode: (spans: readonly Span[]) => Uint8Array
  readonly rejectedIn: (answer: Uint8Array) => number
  readonly send: (body: Uint8Array, signal: AbortSignal) => Promise<TraceOutcome>
  /** For tests: how many may wait. */
  readonly most?: number
}

/** So many sessions may wait for a collector. */
const maxWaiting = 10_000
/** And so long: backends take no spans that are much older. */
const maxWaitSeconds = 86_400
/** The details of a boot are written a moment behind its end. */
const settleSeconds = 5
const sessionsAtOnce = 100
const maxRequestBytes = 2 * 1024 * 1024
const longestPauseSeconds = 300
const longestAskedSeconds = 3600
/** A collector that fails so often in a row (500) does so because of what it is sent. */
const patience = 5
/** A server that has stopped leading knows nothing of what waits. */
const freshSeconds = 30
const quietSeconds = 600

interface Trace {
  readonly event: number
  readonly spans: number
  readonly bytes: Uint8Array
}

/** Opens an exporter; `work` is called every few seconds. */
export function openTraceExporter(context: BootContext, options: TraceExporterOptions): TraceExporter {
  const { db } = context.storage
  const { log, most = maxWaiting } = options
  const cut = new AbortController()
  let working: Promise<void> | undefined
  let exported = 0
  let dropped = 0
  let waiting = { count: 0, at: 0 }
  let failures = 0
  let notBefore = 0
  /** No session ended up to this event, behind the cursor. */
  let looked = 0
  const told = new Map<string, number>()

  async function pass(): Promise<void> {
    const now = context.clock()
    let cursor = await giveUpOld(await openTraceCursor(db), now)
    while (!cut.signal.aborted && context.clock().getTime() >= notBefore) {
      const upTo = await settledId(db)
      const after = Math.max(cursor, looked)
      const due = addSeconds(now, -settleSeconds).toISOString()
      const ended = await listEndings(db, { after, upTo, limit: sessionsAtOnce })
      // In the log's order, up to the first that is too fresh.
      const fresh = ended.findIndex(({ at }) => at > due)
      const ready = fresh === -1 ? ended : ended.slice(0, fresh)
      if (ready.length === 0) {
        if (ended.length === 0) looked = upTo
        noteWaiting(ended.length)
        return
      }
      const moved = await exportAll(cursor, ready)
      if (moved === undefined) return
      cursor = moved
    }
  }

  /** Returns where the cursor is behind all of them; undefined where something is in the way. */
  async function exportAll(cursor: number, ended: readonly Ending[]): Promise<number | undefined> {
    let from = cursor
    let group: Trace[] = []
    let size = 0
    let gone = 0
    for (const [index, ending] of ended.entries()) {
      await new Promise((resolve) => setImmediate(resolve)) // boots go first: SQLite answers at once
      const trace = await traceOf(ending)
      if (trace !== undefined) group.push(trace)
      else gone += 1
      size += trace?.bytes.length ?? 0
      if (size < maxRequestBytes && index < ended.length - 1) continue
      const moved = await exportGroup(from, ending.event, group)
      if (moved === undefined) return undefined
      from = moved
      dropped += gone
      group = []
      size = gone = 0
    }
    return from
  }

  async function traceOf({ node, session, event }: Ending): Promise<Trace | undefined> {
    const story = await readStory(context, node, session)
    if (story === undefined) return undefined // its node was removed meanwhile
    try {
      const spans = spansOf(story)
      return { event, spans: spans.length, bytes: options.encode(spans) }
    } catch (error) {
      warnSeldom('a boot cannot be told as a trace: it is given up', { err: error, session })
      return undefined
    }
  }

  async function exportGroup(from: number, to: number, group: readonly Trace[]): Promise<number | undefined> {
    if (group.length === 0) return move(from, to)
    const judged = await send(group)
    if (judged.kind === 'later') return failed(judged, from)
    if (judged.kind === 'refused' && group.length > 1) return exportSingly(from, to, group)
    // Counted when the cursor is behind it: what is sent again is counted once.
    const moved = await move(from, to)
    if (moved === undefined) return undefined
    if (judged.kind === 'taken') taken(judged.rejected, group)
    else refused(judged.reason, group.length)
    return moved
  }

  /** One of them is what a collector does not take: the others are not lost by it. */
  async function exportSingly(
    from: number,
    to: number,
    group: readonly Trace[],
  ): Promise<number | undefined> {
    let at = from
    for (const trace of group) {
      const moved = await exportGroup(at, trace.event, [trace])
      if (moved === undefined) return undefined
      at = moved
    }
    return at === to ? at : move(at, to)
  }

  async function send(group: readonly Trace[]): Promise<Judged> {
    const outcome = await options.send(Buffer.concat(group.map(({ bytes }) => bytes)), cut.signal)
    return judge(outcome, { rejectedIn: options.rejectedIn, impatient: failures >= patience })
  }

  /** Once in ten minutes: a collector that refuses a thousand boots does not fill the log. */
  function warnSeldom(words: string, about: object): void {
    const now = context.clock().getTime()
    if (now - (told.get(words) ?? 0) < quietSeconds * 1000) return
    told.set(words, now)
    log.warn({ ...about, dropped, exported }, words)
  }

  function taken(rejected: number, group: readonly Trace[]): void {
    const spans = group.reduce((sum, trace) => sum + trace.spans, 0)
    if (rejected >= spans) {
      refused('all of their spans', group.length)
      return
    }
    if (rejected > 0)
      warnSeldom('the collector of traces took some spans and not others', { rejected, spans })
    exported += group.length
    if (failures > 0) log.info({ tries: failures }, 'the collector of traces takes them again')
    failures = 0
  }

  function refused(reason: string, count: number): void {
    dropped += count
    failures = 0
    warnSeldom('the collector of traces refused some: they are given up', { reason })
  }

  async function failed({ reason, seconds }: Judged & { kind: 'later' }, cursor: number): Promise<undefined> {
    if (cut.signal.aborted) return
    if (failures === 0)
      log.warn({ reason }, 'the collector of traces takes none: boots wait in the log until it does')
    const [byte = 0] = context.randomBytes(1)
    const pause = Math.min(2 ** Math.min(failures, 16), longestPauseSeconds) * (0.5 + byte / 512)
    const asked = Math.min(seconds ?? 0, longestAskedSeconds)
    failures += 1
    notBefore = addSeconds(context.clock(), Math.max(pause, asked)).getTime()
    await giveUpMost(cursor)
  }

  /** Moves the cursor; undefined where another process has. */
  async function move(from: number, to: number): Promise<number | undefined> {
    return (await moveTraceCursor(db, from, to)) ? to : undefined
  }

  /** Those that ended too long ago: tracing was off, or nobody answered. */
  async function giveUpOld(cursor: number, now: Date): Promise<number> {
    const oldest = addSeconds(now, -maxWaitSeconds).toISOString()
    let at = cursor
    for (;;) {
      const after = Math.max(at, looked)
      const ended = await listEndings(db, { after, upTo: await settledId(db), limit: sessionsAtOnce })
      const old = ended.filter((ending) => ending.at < oldest)
      const last = old.at(-1)
      if (last === undefined) return at
      if (!(await giveUp(at, last.event, old.length))) return at
      at = last.event
      if (old.length < sessionsAtOnce) return at
    }
  }

  /** The oldest beyond what may wait. */
  async function giveUpMost(cursor: number): Promise<void> {
    const count = await countEndings(db, cursor, most + sessionsAtOnce)
    noteWaiting(count)
    const excess = count - most
    if (excess <= 0) return
    const ended = await listEndings(db, { after: cursor, upTo: await settledId(db), limit: excess })
    const last = ended.at(-1)
    if (last !== undefined && (await giveUp(cursor, last.event, ended.length)))
      noteWaiting(count - ended.length)
  }

  async function giveUp(from: number, to: number, count: number): Promise<boolean> {
    if (!(await moveTraceCursor(db, from, to))) return false
    dropped += count
    warnSeldom('traces are given up: too many wait for the collector, or for too long', {})
    return true
  }

  function noteWaiting(count: number): void {
    waiting = { count, at: context.clock().getTime() }
  }

  async function work(): Promise<void> {
    const now = context.clock().getTime()
    if (cut.signal.aborted) return
    if (now < notBefore) {
      waiting = { ...waiting, at: now }
      return
    }
    working ??= pass().finally(() => {
      working = undefined
    })
    await working
  }

  return {
    work,
    counts: () => {
      const isFresh = context.clock().getTime() - waiting.at <= freshSeconds * 1000
      return { exported, dropped, waiting: isFresh ? waiting.count : 0 }
    },
    close: async () => {
      cut.abort()
      await working?.catch(() => {})
    },
  }
}
