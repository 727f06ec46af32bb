/**
 * Messages between two processes, in batches: what is sent in one turn of the event loop is one message of the channel, so that
 * a storm costs one system call for many requests. The order is kept. Other messages on the same channel (of node:cluster, of
 * prom-client) are passed over.
 */
export interface Wire<Out> {
  /** Sends soon; what is sent when the other end is gone is lost, as the other end is. */
  send(item: Out): void
  /** Items that the channel has not taken yet. */
  readonly waiting: () => number
  /** Sends what waits, and resolves when the channel has taken it, or is gone. */
  flushed(): Promise<void>
}

/** A channel, as a process has it to its parent or child. */
export interface Pipe {
  /** `done` is called when the channel has taken the message, or cannot. */
  send(message: unknown, done: () => void): void
  onMessage(listener: (message: unknown) => void): void
}

/** Opens one end. The other end is our own code, of the same version: what it sends is believed. */
export function openWire<Out, In>(pipe: Pipe, onItem: (item: In) => void): Wire<Out> {
  let batch: Out[] = []
  let waiting = 0
  let whenTaken: (() => void)[] = []

  pipe.onMessage((message) => {
    const items = (message as { pawl?: unknown } | null)?.pawl
    if (Array.isArray(items)) for (const item of items) onItem(item as In)
  })

  function flush(): void {
    const items = batch
    if (items.length === 0) return
    batch = []
    post(items)
  }

  function post(items: readonly Out[]): void {
    const taken = (): void => {
      waiting -= items.length
      if (waiting > 0) return
      const resolves = whenTaken
      whenTaken = []
      for (const resolve of resolves) resolve()
    }
    try {
      pipe.send({ pawl: items }, taken)
    } catch {
      // One of them cannot be carried: it is lost, and neither the others nor this process with it.
      if (items.length === 1) taken()
      else for (const item of items) post([item])
    }
  }

  return {
    send(item) {
      if (batch.push(item) === 1) setImmediate(flush)
      waiting += 1
    },
    waiting: () => waiting,
    flushed() {
      flush()
      return waiting === 0 ? Promise.resolve() : new Promise((resolve) => void whenTaken.push(resolve))
    },
  }
}
