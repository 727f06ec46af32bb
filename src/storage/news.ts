/** What processes on one database tell each other. */
export const topics = ['session-ended'] as const
export type Topic = (typeof topics)[number]

/** News between the processes on one database, as LISTEN and NOTIFY carry them. */
export interface News {
  tell(topic: Topic, word: string): void
  hear(topic: Topic, listener: Listener): () => void
  /** Takes what was heard; another Pawl's words that this one does not know are passed over. */
  heard(text: string): void
  /** Nothing was heard for a while: everyone looks for himself. */
  missed(): void
  /** Tells what waits, once more. */
  close(): Promise<void>
}

type Listener = (words: readonly string[] | undefined) => void

/** Words of one moment go in one message. */
const pauseMilliseconds = 20
const retryMilliseconds = 1000
/** PostgreSQL takes 8,000 bytes in a message. */
const maxTextBytes = 7900
/** More that wait are not told one by one. */
const maxWaiting = 5000

/** Opens it; `me` is who tells, so that nobody hears himself. Without `send` there is nobody else. */
export function openNews(me: string, send?: (text: string) => Promise<unknown>): News {
  const listeners = new Map<Topic, Set<Listener>>()
  const waiting = new Map<Topic, Set<string>>()
  const overflown = new Set<Topic>()
  let timer: NodeJS.Timeout | undefined
  let sending: Promise<void> | undefined
  let closed = false

  function announce(topic: Topic, words: readonly string[] | undefined): void {
    for (const listener of listeners.get(topic) ?? []) listener(words)
  }

  function later(milliseconds: number): void {
    if (send === undefined || closed) return
    timer ??= setTimeout(() => {
      timer = undefined
      sending ??= sendAll(send).finally(() => {
        sending = undefined
        if (waiting.size > 0 || overflown.size > 0) later(retryMilliseconds)
      })
    }, milliseconds).unref()
  }

  /** What cannot be told now, because the database is away, is told when it is back. */
  async function sendAll(to: (text: string) => Promise<unknown>): Promise<void> {
    for (const topic of topics) {
      for (const words of messagesOf(topic)) {
        try {
          await to(JSON.stringify({ from: me, topic, words }))
        } catch {
          return
        }
        if (words === null) overflown.delete(topic)
        else for (const word of words) waiting.get(topic)?.delete(word)
        if (waiting.get(topic)?.size === 0) waiting.delete(topic)
      }
    }
  }

  function messagesOf(topic: Topic): (readonly string[] | null)[] {
    if (overflown.has(topic)) return [null]
    const messages: string[][] = []
    let bytes = maxTextBytes
    for (const word of waiting.get(topic) ?? []) {
      const size = Buffer.byteLength(JSON.stringify(word)) + 1
      if (bytes + size > maxTextBytes) {
        messages.push([])
        bytes = 100 // of the message around them
      }
      messages.at(-1)?.push(word)
      bytes += size
    }
    return messages
  }

  return {
    tell(topic, word) {
      if (send === undefined || closed || overflown.has(topic)) return
      const words = waiting.get(topic) ?? new Set()
      waiting.set(topic, words.add(word))
      if (words.size > maxWaiting) {
        waiting.delete(topic)
        overflown.add(topic)
      }
      later(pauseMilliseconds)
    },
    hear(topic, listener) {
      const all = listeners.get(topic) ?? new Set()
      listeners.set(topic, all.add(listener))
      return () => all.delete(listener)
    },
    heard(text) {
      const message = read(text)
      if (message !== undefined && message.from !== me) announce(message.topic, message.words)
    },
    missed() {
      for (const topic of topics) announce(topic, undefined)
    },
    async close() {
      clearTimeout(timer)
      await sending
      if (send !== undefined) await sendAll(send)
      closed = true
    },
  }
}

interface Message {
  readonly from: string
  readonly topic: Topic
  readonly words: readonly string[] | undefined
}

function read(text: string): Message | undefined {
  try {
    const { from, topic, words } = JSON.parse(text) as Record<string, unknown>
    const known = topics.find((one) => one === topic)
    if (typeof from !== 'string' || known === undefined) return undefined
    if (words === null) return { from, topic: known, words: undefined }
    if (!Array.isArray(words) || !words.every((word) => typeof word === 'string')) return undefined
    return { from, topic: known, words }
  } catch {
    return undefined
  }
}
