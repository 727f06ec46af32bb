import { ApiError, open } from './api.ts'
import type { EventView } from './shapes.ts'

/** How the stream of events is. */
export type LiveState = 'connecting' | 'live' | 'lost'

/** Who hears of events. */
export interface LiveListener {
  readonly onEvent?: (event: EventView) => void
  /** There may have been more events than were heard: look again at everything. */
  readonly onGap?: () => void
  readonly onState?: (state: LiveState) => void
}

const listeners = new Set<LiveListener>()
const pauses = { first: 1000, most: 30_000 }
/** The server sends a sign of life every 15 s. */
const silenceMilliseconds = 40_000
/** Behind more events than these the rest is not read one by one. */
const maxCatchUp = 2000

let state: LiveState = 'connecting'
let running: AbortController | undefined

/** Hears of events from now on; returns what ends it. */
export function listen(listener: LiveListener): () => void {
  listeners.add(listener)
  listener.onState?.(state)
  return () => listeners.delete(listener)
}

/** Keeps a stream of all events open until it is stopped; one that breaks is opened again where it was. */
export function startLive(): void {
  if (running !== undefined) return
  const stop = new AbortController()
  running = stop
  void keepOpen(stop.signal)
}

/** Ends the stream. */
export function stopLive(): void {
  running?.abort()
  running = undefined
  say('connecting')
}

async function keepOpen(stop: AbortSignal): Promise<void> {
  let cursor: number | undefined
  let pause = pauses.first
  while (!stop.aborted) {
    const began = performance.now()
    try {
      const next = await readStream(cursor, stop, (id) => {
        cursor = id
      })
      if (next === 'too many') {
        // From now on, and with a look at everything: there is no telling here which of them are still to be caught up with.
        cursor = undefined
        continue
      }
      cursor = next
      if (performance.now() - began > 10_000) pause = pauses.first
    } catch (error) {
      if (error instanceof ApiError && (error.status === 401 || error.status === 403)) return
      // The database was set back: nothing that is shown is true any more.
      if (error instanceof ApiError && error.status === 409) cursor = undefined
    }
    if (stop.aborted) return
    say('lost')
    await someTime(pause * (0.75 + Math.random() / 2), stop)
    pause = Math.min(pause * 2, pauses.most)
  }
}

async function readStream(
  from: number | undefined,
  stop: AbortSignal,
  onId: (id: number) => void,
): Promise<number | undefined | 'too many'> {
  const silence = new AbortController()
  let timer = setTimeout(() => silence.abort(), silenceMilliseconds)
  const query = from === undefined ? '' : `?after=${from}`
  try {
    const body = await open(`events/stream${query}`, AbortSignal.any([stop, silence.signal]))
    say('live')
    gap()
    const reader = body.getReader()
    const decoder = new TextDecoder()
    let text = ''
    let caughtUp = 0
    let cursor = from
    for (;;) {
      const { value, done } = await reader.read()
      if (done) return cursor
      clearTimeout(timer)
      timer = setTimeout(() => silence.abort(), silenceMilliseconds)
      text += decoder.decode(value, { stream: true })
      const messages = text.split('\n\n')
      text = messages.pop() ?? ''
      for (const message of messages) {
        const { id, event } = parseMessage(message)
        if (id !== undefined) {
          cursor = id
          onId(id)
        }
        if (event === undefined) continue
        caughtUp += 1
        if (from !== undefined && caughtUp > maxCatchUp) return 'too many'
        for (const one of listeners) one.onEvent?.(event)
      }
    }
  } finally {
    clearTimeout(timer)
    silence.abort() // the stream may be left before its end
  }
}

function parseMessage(message: string): { id?: number; event?: EventView } {
  const lines = message.split('\n')
  const fieldOf = (name: string): string | undefined =>
    lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2)
  const id = fieldOf('id')
  const data = fieldOf('event') === undefined ? fieldOf('data') : undefined
  return {
    ...(id === undefined ? {} : { id: Number(id) }),
    ...(data === undefined ? {} : { event: JSON.parse(data) as EventView }),
  }
}

function say(next: LiveState): void {
  if (next === state) return
  state = next
  for (const listener of listeners) listener.onState?.(next)
}

function gap(): void {
  for (const listener of listeners) listener.onGap?.()
}

/** A pause that ends early when the network comes back, or somebody looks at the page again. */
function someTime(milliseconds: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds)
    const seen = (): void => {
      if (document.visibilityState === 'visible') done()
    }
    function done(): void {
      clearTimeout(timer)
      window.removeEventListener('online', done)
      document.removeEventListener('visibilitychange', seen)
      stop.removeEventListener('abort', done)
      resolve()
    }
    window.addEventListener('online', done)
    document.addEventListener('visibilitychange', seen)
    stop.addEventListener('abort', done)
  })
}
