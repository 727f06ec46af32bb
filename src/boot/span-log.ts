import type { Arrival, SpanKind } from '../domain/span.ts'
import { maxDetailLength, oneLine } from '../domain/span.ts'
import type { StageName } from '../domain/stage.ts'
import type { Storage, Tx } from '../storage/database.ts'
import { addProgress, type Progress } from '../storage/sessions.ts'
import type { SessionSpanRow } from '../storage/span-tables.ts'
import { addTimes, countSpans, insertSpans, listKnownSessions } from '../storage/spans.ts'

/**
 * Writes down what happened within boot sessions, off the path of boots: kept in memory and written about once a second. A server that is
 * killed loses its last second of them, and nothing that is true of a boot: stages and events are written with the boot itself. Of
 * each kind a session has a bounded number; those beyond are counted on the last one, so that neither a node nor whoever has one of its
 * spent tokens can fill the disk, or push out what matters. With them is counted what was sent, for its stage and for the session's
 * idle timer: one commit a second, where each file would cost one.
 */
export interface SpanLog {
  /** Takes note; never throws and never waits. */
  note(span: NewSpan): void
  /** Writes what waits now. */
  flush(): Promise<void>
  /** Whether the disk has room left above the reserve: for whatever only explains a boot. */
  readonly hasRoom: () => Promise<boolean>
  /** Spans that were not written: too many at a time, or the database was away. */
  readonly dropped: () => number
}

/** A span to be written. */
export interface NewSpan {
  readonly session: string
  /** Left out: whichever stage was open then. */
  readonly stage?: StageName | undefined
  readonly kind: SpanKind
  readonly at: Date
  readonly seconds: number
  readonly bytes?: number | null
  /** The bytes are ours, sent until then: they count for the stage, and keep the session awake. */
  readonly sentBy?: Date
  readonly detail?: string
  readonly arrival?: Arrival | undefined
  /** Measured by the node's agent. */
  readonly told?: boolean
  /** The first of a session that has just begun: nothing of it need be looked up. */
  readonly first?: boolean
}

/** What the log needs. */
export interface SpanLogOptions {
  readonly storage: Storage
  /** Whether the disk has room left above the reserve. */
  readonly hasRoom: () => Promise<boolean>
  readonly onError: (error: unknown) => void
  /** Runs `work` about a second later. */
  readonly later?: (work: () => void) => void
}

/** A boot that goes well has some fifteen spans in all. */
export const maxSpansOfKind = 25
const maxWaiting = 50_000
const batchSize = 500
const maxCounted = 20_000
const writeEveryMilliseconds = 1000

type Counts = Map<SpanKind, number>

/** Opens the log of this process. */
export function openSpanLog(options: SpanLogOptions): SpanLog {
  const { later = (work) => void setTimeout(work, writeEveryMilliseconds).unref() } = options
  /** How many spans of each kind a session has; one that was forgotten is looked up. */
  const counted = new Map<string, Counts>()
  let waiting: NewSpan[] = []
  let dropped = 0
  /** Spans that were taken note of, and those of them that are written or dropped. */
  let noted = 0
  let settled = 0
  let writing: Promise<void> | undefined
  let isDue = false

  function note(span: NewSpan): void {
    if (waiting.length >= maxWaiting) {
      dropped += 1
      return
    }
    waiting.push(span)
    noted += 1
    if (isDue) return
    isDue = true
    later(() => {
      // Before it is known how long this takes: what comes meanwhile has a turn of its own.
      isDue = false
      void flush()
    })
  }

  /** All that was noted until now; who asks while boots go on does not wait for theirs. */
  async function flush(): Promise<void> {
    const until = noted
    while (settled < until) {
      writing ??= writeNext().finally(() => {
        writing = undefined
      })
      await writing
    }
  }

  async function writeNext(): Promise<void> {
    const batch = waiting.slice(0, batchSize)
    waiting = waiting.slice(batchSize)
    // Boots that are being served now begin their transactions before this one.
    await new Promise((resolve) => setImmediate(resolve))
    await writeBatch(batch)
    settled += batch.length
  }

  async function writeBatch(batch: readonly NewSpan[]): Promise<void> {
    const progress = progressOf(batch)
    try {
      const hasRoom = await options.hasRoom()
      if (!hasRoom) dropped += batch.length
      if (!hasRoom && progress.length === 0) return
      const counts = await options.storage.transaction(async (tx) => {
        await addProgress(tx, progress)
        return hasRoom ? write(tx, batch) : new Map<string, Counts>()
      })
      for (const [session, count] of counts) counted.set(session, count)
    } catch (error) {
      // Nobody boots by them: they are not tried again, and what was counted meanwhile is looked up.
      for (const { session } of batch) counted.delete(session)
      dropped += batch.length
      options.onError(error)
    }
  }

  /** How many spans the sessions have then: it counts when the transaction does, which may be run more than once. */
  async function write(tx: Tx, batch: readonly NewSpan[]): Promise<Map<string, Counts>> {
    await lookUp(tx, batch)
    const rows: SessionSpanRow[] = []
    const beyond = new Map<string, Pick<SessionSpanRow, 'session' | 'kind' | 'times'>>()
    const after = new Map<string, Counts>()
    for (const span of batch) {
      const before = counted.get(span.session)
      if (before === undefined) continue // its node was removed meanwhile
      const counts = after.get(span.session) ?? new Map(before)
      after.set(span.session, counts)
      const count = (counts.get(span.kind) ?? 0) + 1
      counts.set(span.kind, count)
      if (count <= maxSpansOfKind) rows.push(rowOf(span))
      else {
        const { session, kind } = span
        const key = `${session} ${kind}`
        beyond.set(key, { session, kind, times: (beyond.get(key)?.times ?? 0) + 1 })
      }
    }
    await insertSpans(tx, rows)
    for (const more of beyond.values()) await addTimes(tx, more)
    return after
  }

  async function lookUp(tx: Tx, batch: readonly NewSpan[]): Promise<void> {
    const all = [...new Set(batch.map(({ session }) => session))]
    const first = new Set(batch.flatMap((span) => (span.first === true ? [span.session] : [])))
    const there = await listKnownSessions(tx, all)
    const unknown = all.filter((session) => there.has(session) && !counted.has(session))
    for (const session of all) if (!there.has(session)) counted.delete(session)
    for (const session of unknown) counted.set(session, new Map())
    const asked = unknown.filter((session) => !first.has(session))
    const found = asked.length === 0 ? [] : await countSpans(tx, asked)
    for (const { session, kind, count } of found) counted.get(session)?.set(kind, count)
    for (const oldest of counted.keys()) {
      if (counted.size <= maxCounted) break
      if (!there.has(oldest)) counted.delete(oldest)
    }
  }

  return { note, flush, hasRoom: options.hasRoom, dropped: () => dropped }
}

/** What was sent, by session and stage. */
function progressOf(batch: readonly NewSpan[]): readonly Progress[] {
  const found = new Map<string, Progress>()
  for (const { session, stage, bytes, sentBy } of batch) {
    if (stage === undefined || sentBy === undefined) continue
    const key = `${session} ${stage}`
    const before = found.get(key)
    const at = before === undefined || before.at < sentBy ? sentBy : before.at
    found.set(key, { session, stage, bytes: (before?.bytes ?? 0) + (bytes ?? 0), at })
  }
  return [...found.values()]
}

function rowOf(span: NewSpan): SessionSpanRow {
  const { session, stage, kind, at, seconds, bytes, detail, arrival, told } = span
  return {
    session,
    stage: stage ?? null,
    kind,
    at: at.toISOString(),
    seconds: Math.max(0, Math.round(seconds * 1000) / 1000),
    bytes: bytes ?? null,
    detail: detail === undefined ? null : oneLine(detail, maxDetailLength),
    agent: arrival?.agent ?? null,
    tls: arrival?.tls == null ? null : JSON.stringify(arrival.tls),
    told: told === true ? 1 : 0,
    times: 1,
  }
}
