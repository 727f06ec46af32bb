import { randomUUID } from 'node:crypto'

/** Tells who follows the event log that there is more: soon, at least once, perhaps for nothing. What there is, they read. */
export interface EventWake {
  /** Calls `listener` after events were committed, by this process or by another replica. Returns what ends it. */
  subscribe(listener: () => void): () => void
}

/** The end of it that the storage holds. */
export interface OpenEventWake extends EventWake {
  /** Events were committed here. */
  committed(): void
  close(): Promise<void>
}

/** What of pg's Client is used here. */
export interface Ear {
  connect(): Promise<unknown>
  query(text: string): Promise<unknown>
  end(): Promise<void>
  on(event: 'error' | 'end', listener: () => void): unknown
  on(event: 'notification', listener: (message: { payload?: string | undefined }) => void): unknown
}

/** Between processes, where there can be several. */
export interface Between {
  /** A connection that is not open yet, to listen on. */
  readonly connection: () => Ear
  /** Tells the others; `from` is who told, so that nobody wakes itself twice. */
  readonly notify: (channel: string, from: string) => Promise<unknown>
}

const channel = 'pawl_events'
/** NOTIFY makes commits wait for each other, so it has a transaction of its own, and one for many commits. */
const notifyPauseMilliseconds = 50
const reconnectMilliseconds = { first: 500, most: 30_000 }

/** Opens it. Without `between` there is no other process that writes. */
export function openEventWake(between?: Between): OpenEventWake {
  const me = randomUUID()
  const listeners = new Set<() => void>()
  const wakeAll = (): void => {
    for (const listener of listeners) listener()
  }
  let closed = false
  let telling: NodeJS.Timeout | undefined
  let ear: { close(): Promise<void> } | undefined

  function tellOthers(to: Between): void {
    telling ??= setTimeout(() => {
      telling = undefined
      // A word that is lost is made up for: followers look by themselves from time to time.
      if (!closed) to.notify(channel, me).catch(() => {})
    }, notifyPauseMilliseconds).unref()
  }

  return {
    subscribe(listener) {
      listeners.add(listener)
      if (between !== undefined && !closed) ear ??= listen(between.connection, me, wakeAll)
      return () => listeners.delete(listener)
    },
    committed() {
      wakeAll()
      if (between !== undefined && !closed) tellOthers(between)
    },
    async close() {
      closed = true
      clearTimeout(telling)
      await ear?.close()
    },
  }
}

/** A connection of its own that hears the others; one that breaks is made again. */
function listen(open: () => Ear, me: string, wake: () => void): { close(): Promise<void> } {
  let closed = false
  let pause = reconnectMilliseconds.first
  let retry: NodeJS.Timeout | undefined
  let client: Ear | undefined

  async function connect(): Promise<void> {
    const fresh = open()
    client = fresh
    let broken = false
    const again = (): void => {
      if (broken) return
      broken = true
      fresh.end().catch(() => {})
      if (closed) return
      retry = setTimeout(() => void connect(), pause).unref()
      pause = Math.min(pause * 2, reconnectMilliseconds.most)
    }
    fresh.on('error', again)
    fresh.on('end', again)
    fresh.on('notification', ({ payload }) => {
      if (payload !== me) wake()
    })
    try {
      await fresh.connect()
      await fresh.query(`listen ${channel}`)
      pause = reconnectMilliseconds.first
      wake() // what was told meanwhile was not heard
    } catch {
      again()
    }
  }

  void connect()
  return {
    async close() {
      closed = true
      clearTimeout(retry)
      await client?.end().catch(() => {})
    },
  }
}
