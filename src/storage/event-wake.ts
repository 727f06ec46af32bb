import { randomUUID } from 'node:crypto'
import { openNews, type Topic } from './news.ts'

/** Tells who follows the event log that there is more: soon, at least once, perhaps for nothing. What there is, they read. */
export interface EventWake {
  /** Calls `listener` after events were committed, by this process or by another replica. Returns what ends it. */
  subscribe(listener: () => void): () => void
  /** Tells the other processes on this database, soon and in few messages. Nobody hears it here. */
  tell(topic: Topic, word: string): void
  /**
   * Hears what the others told. Undefined: words may have been missed, look for yourself. Returns what ends it.
   */
  hear(topic: Topic, listener: (words: readonly string[] | undefined) => void): () => void
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
  on(
    event: 'notification',
    listener: (message: { channel?: string; payload?: string | undefined }) => void,
  ): unknown
}

/** Between processes, where there can be several. */
export interface Between {
  /** A connection that is not open yet, to listen on. */
  readonly connection: () => Ear
  /** Tells the others a text. */
  readonly notify: (channel: string, text: string) => Promise<unknown>
  /** How often the connection is asked whether it is there, and how long it has for its answer. */
  readonly ask?: typeof askMilliseconds
}

const channels = { events: 'pawl_events', news: 'pawl_news' } as const
/** NOTIFY makes commits wait for each other, so it has a transaction of its own, and one for many commits. */
const notifyPauseMilliseconds = 50
/**
 * Who listens says nothing for hours: a server or firewall that is gone without a word is found by asking, and not by TCP, whose first
 * keep-alive comes after two hours where nobody has set it. Until it is found, what ends elsewhere is not cut here.
 */
const askMilliseconds = { every: 15_000, answered: 5_000 }
const reconnectMilliseconds = { first: 500, most: 5000 }

/** Opens it. Without `between` there is no other process that writes. */
export function openEventWake(between?: Between): OpenEventWake {
  const me = randomUUID()
  const listeners = new Set<() => void>()
  const wakeAll = (): void => {
    for (const listener of listeners) listener()
  }
  const news = openNews(me, between && ((text) => between.notify(channels.news, text)))
  let closed = false
  let telling: NodeJS.Timeout | undefined
  let ear: { close(): Promise<void> } | undefined

  function tellOthers(to: Between): void {
    telling ??= setTimeout(() => {
      telling = undefined
      // A word that is lost is made up for: followers look by themselves from time to time.
      if (!closed) to.notify(channels.events, me).catch(() => {})
    }, notifyPauseMilliseconds).unref()
  }

  function listenFrom(to: Between | undefined): void {
    if (to === undefined || closed) return
    ear ??= listen(to.connection, to.ask ?? askMilliseconds, {
      opened() {
        wakeAll() // what was told meanwhile was not heard
        news.missed()
      },
      heard(channel, payload) {
        if (channel === channels.news) news.heard(payload)
        else if (payload !== me) wakeAll()
      },
    })
  }

  return {
    subscribe(listener) {
      listeners.add(listener)
      listenFrom(between)
      return () => listeners.delete(listener)
    },
    tell: news.tell,
    hear(topic, listener) {
      const end = news.hear(topic, listener)
      listenFrom(between)
      return end
    },
    committed() {
      wakeAll()
      if (between !== undefined && !closed) tellOthers(between)
    },
    async close() {
      closed = true
      clearTimeout(telling)
      await news.close()
      await ear?.close()
    },
  }
}

interface Hearing {
  readonly opened: () => void
  readonly heard: (channel: string | undefined, payload: string) => void
}

/** A connection of its own that hears the others; one that breaks is made again. */
function listen(
  open: () => Ear,
  ask: typeof askMilliseconds,
  { opened, heard }: Hearing,
): { close(): Promise<void> } {
  let closed = false
  let pause = reconnectMilliseconds.first
  let retry: NodeJS.Timeout | undefined
  let client: Ear | undefined
  let asking: NodeJS.Timeout | undefined

  /** Asks again and again; where no answer comes, `lost` is called. Where it says no, its own end tells. */
  function askOften(of: Ear, lost: () => void): void {
    asking = setTimeout(() => {
      asking = setTimeout(lost, ask.answered).unref()
      of.query('select 1').then(
        () => {
          clearTimeout(asking)
          if (client === of && !closed) askOften(of, lost)
        },
        () => lost(),
      )
    }, ask.every).unref()
  }

  async function connect(): Promise<void> {
    const fresh = open()
    client = fresh
    let broken = false
    const again = (): void => {
      if (broken) return
      broken = true
      clearTimeout(asking)
      fresh.end().catch(() => {})
      if (closed) return
      retry = setTimeout(() => void connect(), pause).unref()
      pause = Math.min(pause * 2, reconnectMilliseconds.most)
    }
    fresh.on('error', again)
    fresh.on('end', again)
    fresh.on('notification', ({ channel, payload }) => heard(channel, payload ?? ''))
    try {
      await fresh.connect()
      await fresh.query(`listen ${channels.events}; listen ${channels.news}`)
      pause = reconnectMilliseconds.first
      if (!broken && !closed) askOften(fresh, again)
      opened()
    } catch {
      again()
    }
  }

  void connect()
  return {
    async close() {
      closed = true
      clearTimeout(retry)
      clearTimeout(asking)
      await client?.end().catch(() => {})
    },
  }
}
