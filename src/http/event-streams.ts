import type { ServerResponse } from 'node:http'
import { isPawlError, PawlError } from '../errors.ts'
import { eventView } from '../fleet/event-view.ts'
import { settledId } from '../storage/commit-order.ts'
import type { Storage } from '../storage/database.ts'
import { listEvents } from '../storage/events.ts'
import type { EventRow } from '../storage/tables.ts'
import { sharePages } from './shared-pages.ts'

/**
 * Events as they happen, to many readers at once (server-sent events, WHATWG HTML 9.2). Each reader has a cursor, the id
 * of the last event it was sent, and reads on from there when something was written: nothing is queued for it, so a slow
 * one costs no memory, and one that comes back with its cursor misses nothing and gets nothing twice. Readers at the same
 * place share one query.
 */
export interface EventStreams {
  /** Serves a reader until it leaves, is too slow, may no more, or the server stops. Throws before the first byte only. */
  serve(reader: StreamReader): Promise<void>
  /** Ends all of them. */
  close(): void
}

/** One reader. */
export interface StreamReader {
  readonly response: ServerResponse
  readonly headers: Readonly<Record<string, string>>
  /** The operator's name: all streams of one operator count together, by however many sessions and tokens. */
  readonly who: string
  readonly filter: { readonly node?: string; readonly kind?: string; readonly session?: string }
  /** The id of the last event it has; undefined: from now on. */
  readonly after: number | undefined
  /** Throws when the reader may no more. */
  readonly stillMay: () => Promise<void>
  /** Called when its answer begins. */
  readonly begin: () => void
}

/** Times and bounds. */
export interface StreamLimits {
  readonly maxReaders: number
  readonly maxReadersEach: number
  readonly heartbeatMilliseconds: number
  readonly recheckMilliseconds: number
  /** A reader that takes nothing for so long is cut off. */
  readonly stalledMilliseconds: number
  /** The shortest time between two looks into the database. */
  readonly pauseMilliseconds: number
  /** How often one looks without having been woken. */
  readonly pollMilliseconds: number
}

/** What holds where nothing else is said. */
export const streamLimits: StreamLimits = {
  maxReaders: 200,
  maxReadersEach: 20,
  heartbeatMilliseconds: 15_000,
  recheckMilliseconds: 30_000,
  stalledMilliseconds: 30_000,
  pauseMilliseconds: 200,
  pollMilliseconds: 3000,
}

const pageSize = 200
/** Readers who wait for what is new share a page; those who replay the log share few. Some megabytes at most. */
const pagesHeld = 8

/** Opens them over one database. */
export function openEventStreams(storage: Storage, limits: StreamLimits = streamLimits): EventStreams {
  const readers = new Map<AbortController, string>()
  const source = openSource(storage, limits)

  function admit(who: string): AbortController {
    const own = [...readers.values()].filter((name) => name === who).length
    if (readers.size >= limits.maxReaders || own >= limits.maxReadersEach) {
      const most = own >= limits.maxReadersEach ? limits.maxReadersEach : limits.maxReaders
      throw new PawlError('overloaded', `${most} event streams are open already`, { retryAfterSeconds: 10 })
    }
    const stop = new AbortController()
    readers.set(stop, who)
    return stop
  }

  async function serve(reader: StreamReader): Promise<void> {
    const stop = admit(reader.who)
    const release = source.hold()
    try {
      const settled = await source.look()
      if (reader.after !== undefined && reader.after > settled) {
        throw new PawlError('conflict', `the record goes to event ${settled}, not to ${reader.after}`, {
          hint: 'the database was set back to an older state: read from the beginning',
        })
      }
      reader.begin()
      await send(reader, { stop: stop.signal, cursor: reader.after ?? settled, source, limits })
    } finally {
      readers.delete(stop)
      release()
    }
  }

  return {
    serve,
    close() {
      for (const stop of readers.keys()) stop.abort()
      source.close()
    },
  }
}

interface Sending {
  readonly stop: AbortSignal
  readonly cursor: number
  readonly source: Source
  readonly limits: StreamLimits
}

/** The life of one answer. Whatever ends it, the reader asks again with the last id it has. */
async function send(reader: StreamReader, { stop, cursor: begin, source, limits }: Sending): Promise<void> {
  const { response, headers, filter } = reader
  const left = new AbortController()
  response.once('close', () => left.abort())
  response.on('error', () => left.abort())
  const over = AbortSignal.any([stop, left.signal])
  response.writeHead(200, headers)
  response.write(`retry: 2000\nid: ${begin}\n\n`)
  let cursor = begin
  let checkAt = performance.now() + limits.recheckMilliseconds
  while (!over.aborted) {
    const { rows, upTo } = await source.page(cursor, filter)
    cursor = rows.length === pageSize ? Number(rows.at(-1)?.id ?? upTo) : Math.max(cursor, upTo)
    // The id without data moves the reader's cursor past what it did not ask for.
    const text = rows.map(messageOf).join('')
    const beat = rows.length === 0 ? `: still here\nid: ${cursor}\n\n` : ''
    if (!response.write(text + beat) && !(await drained(response, over, limits.stalledMilliseconds))) break
    if (performance.now() >= checkAt) {
      checkAt = performance.now() + limits.recheckMilliseconds
      const refused = await refusal(reader)
      if (refused !== undefined) {
        response.write(
          `event: end\ndata: ${JSON.stringify({ code: refused.code, detail: refused.message })}\n\n`,
        )
        break
      }
    }
    if (rows.length < pageSize)
      await source.more(cursor, over, Math.min(limits.heartbeatMilliseconds, checkAt - performance.now()))
  }
  if (left.signal.aborted || !response.writableNeedDrain) response.end()
  else response.destroy()
}

function messageOf(row: EventRow): string {
  return `id: ${Number(row.id)}\ndata: ${JSON.stringify(eventView(row))}\n\n`
}

/** Why the reader may no more; a database that does not answer now takes no right away. */
async function refusal({ stillMay }: StreamReader): Promise<PawlError | undefined> {
  try {
    await stillMay()
    return undefined
  } catch (error) {
    return isPawlError(error, 'unauthenticated') || isPawlError(error, 'forbidden') ? error : undefined
  }
}

function drained(response: ServerResponse, over: AbortSignal, milliseconds: number): Promise<boolean> {
  return new Promise((resolve) => {
    const done = (result: boolean): void => {
      clearTimeout(timer)
      response.off('drain', drain)
      over.removeEventListener('abort', gone)
      resolve(result)
    }
    const drain = (): void => done(true)
    const gone = (): void => done(false)
    const timer = setTimeout(gone, milliseconds)
    response.once('drain', drain)
    over.addEventListener('abort', gone)
    if (over.aborted) gone()
  })
}

/** What readers read from. */
interface Source {
  /** Looks into the database from now on, until the answer is called. */
  hold(): () => void
  /** The id up to which events are settled, as of now. */
  look(): Promise<number>
  /** Events behind a cursor, and the id up to which it looked. A database that does not answer gives none. */
  page(after: number, filter: StreamReader['filter']): Promise<{ rows: EventRow[]; upTo: number }>
  /** Resolves when there may be events behind the cursor, when it is over, or in time. */
  more(cursor: number, over: AbortSignal, milliseconds: number): Promise<void>
  close(): void
}

function openSource({ db, wake }: Storage, limits: StreamLimits): Source {
  let settled = 0
  let holders = 0
  let closed = false
  let sleep: (() => void) | undefined
  let timer: NodeJS.Timeout | undefined
  let looking: Promise<number> | undefined
  const waiting = new Set<() => void>()
  const pages = sharePages<EventRow>(pagesHeld)

  function look(): Promise<number> {
    looking ??= settledId(db)
      .then((id) => {
        if (id > settled) {
          settled = id
          pages.clear()
          for (const go of [...waiting]) go()
        }
        return settled
      })
      .finally(() => {
        looking = undefined
      })
    return looking
  }

  /** Woken again and again, it still looks only once in a pause. */
  function later(milliseconds: number): void {
    clearTimeout(timer)
    if (closed || holders === 0) return
    timer = setTimeout(() => {
      timer = undefined
      look()
        .catch(() => {}) // it does not answer now: the next time
        .finally(() => {
          if (timer === undefined) later(limits.pollMilliseconds) // unless it was woken meanwhile
        })
    }, milliseconds).unref()
  }

  let woken = 0
  function onWake(): void {
    const now = performance.now()
    if (now < woken + limits.pauseMilliseconds) return
    woken = now
    later(limits.pauseMilliseconds)
  }

  function hold(): () => void {
    holders += 1
    if (holders === 1) {
      sleep = wake.subscribe(onWake)
      later(limits.pollMilliseconds)
    }
    return () => {
      holders -= 1
      if (holders > 0) return
      sleep?.()
      clearTimeout(timer)
      pages.clear()
    }
  }

  async function page(
    after: number,
    filter: StreamReader['filter'],
  ): Promise<{ rows: EventRow[]; upTo: number }> {
    const upTo = settled
    if (after >= upTo) return { rows: [], upTo }
    const key = JSON.stringify([after, filter.node, filter.kind, filter.session])
    const load = (): Promise<EventRow[]> => listEvents(db, { ...filter, after, upTo, limit: pageSize })
    return pages.get(key, load).then(
      (rows) => ({ rows, upTo }),
      () => ({ rows: [], upTo: after }),
    )
  }

  function more(cursor: number, over: AbortSignal, milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const go = (): void => {
        clearTimeout(wait)
        waiting.delete(go)
        over.removeEventListener('abort', go)
        resolve()
      }
      const wait = setTimeout(go, Math.max(0, milliseconds))
      waiting.add(go)
      over.addEventListener('abort', go)
      if (over.aborted || cursor < settled) go()
    })
  }

  return {
    hold,
    look,
    page,
    more,
    close() {
      closed = true
      clearTimeout(timer)
      sleep?.()
    },
  }
}
