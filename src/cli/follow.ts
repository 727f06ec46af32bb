import { once } from 'node:events'
import { type ErrorCode, errorCodes, isPawlError, PawlError } from '../errors.ts'
import type { EventView } from './answers.ts'
import { openApi } from './api.ts'
import { findConnection } from './connection.ts'
import type { Context } from './context.ts'

/** What to follow, and from where. */
export interface Followed {
  readonly node?: string | undefined
  readonly kind?: string | undefined
  readonly session?: string | undefined
  /** The id of the last event that is known; undefined: from now on. */
  readonly after: number | undefined
}

const pauses = { first: 1000, most: 15_000 }
const maxLine = 2 ** 20
/** What waiting does not mend. */
const lasting: ReadonlySet<ErrorCode> = new Set([
  'unauthenticated',
  'forbidden',
  'conflict',
  'invalid',
  'usage',
  'not-found',
  'key-unreadable',
])

/**
 * Events as they happen, each once and in order, until `stop`. A connection that breaks is made again, behind the last event
 * that came; only the first must come about. `onState` is told when the server is lost and found.
 */
export async function* followEvents(
  context: Context,
  { after, ...filter }: Followed,
  stop: AbortSignal,
  onState: (lost: PawlError | undefined) => void = () => {},
): AsyncGenerator<EventView> {
  let last = after
  let pause = pauses.first
  let lost: PawlError | undefined
  let connected = false
  while (!stop.aborted) {
    try {
      for await (const message of connection(context, { ...filter, after: last }, stop)) {
        connected = true
        pause = pauses.first
        if (lost !== undefined) onState(undefined)
        lost = undefined
        if (message.event !== undefined && (last === undefined || message.event.id > last))
          yield message.event
        last = message.id ?? last
      }
    } catch (error) {
      if (stop.aborted) return
      const fault = isPawlError(error)
        ? error
        : new PawlError('unreachable', 'the connection was cut', { cause: error })
      if (!connected || lasting.has(fault.code)) throw fault
      if (lost === undefined) onState(fault)
      lost = fault
    }
    await sleep(pause, stop)
    pause = Math.min(pause * 2, pauses.most)
  }
}

interface Message {
  readonly id: number | undefined
  readonly event: EventView | undefined
}

/** One connection, until it ends. The data folder is asked anew where the server is: it may have come back on another port. */
async function* connection(
  { io, flags }: Context,
  { after, ...filter }: Followed,
  stop: AbortSignal,
): AsyncGenerator<Message> {
  const api = openApi(await findConnection(io.env, flags().data))
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries({ ...filter, after }))
    if (value !== undefined) query.set(name, String(value))
  try {
    const body = await api.download(`/events/stream?${query}`, () => {})
    const cut = (): void => void body.destroy()
    stop.addEventListener('abort', cut)
    if (stop.aborted) cut()
    try {
      yield* messages(body)
    } finally {
      stop.removeEventListener('abort', cut)
      body.destroy()
    }
  } finally {
    api.close()
  }
}

/** Server-sent events as our server writes them: `id`, `data` on one line, `event: end` when it is over for good. */
async function* messages(body: NodeJS.ReadableStream): AsyncGenerator<Message> {
  let id: number | undefined
  let data: string | undefined
  let name = ''
  for await (const line of linesOf(body)) {
    const [, field = '', value = ''] = /^(id|data|event): ?(.*)$/.exec(line) ?? []
    if (field === 'id') id = Number(value)
    if (field === 'data') data = value
    if (field === 'event') name = value
    if (line !== '') continue
    if (name === 'end') throw ended(data)
    yield { id, event: data === undefined ? undefined : (JSON.parse(data) as EventView) } // see Api
    data = undefined
  }
}

/** Not readline's: that waits for ever on a body that was destroyed. */
async function* linesOf(body: NodeJS.ReadableStream): AsyncGenerator<string> {
  let rest = ''
  for await (const chunk of body.setEncoding('utf8') as AsyncIterable<string>) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > maxLine) throw new PawlError('too-large', 'an event of the server is larger than 1 MiB')
    yield* lines
  }
}

function ended(data = '{}'): PawlError {
  const { code, detail } = JSON.parse(data) as { code?: string; detail?: string }
  const known = code !== undefined && Object.hasOwn(errorCodes, code) ? (code as ErrorCode) : 'forbidden'
  return new PawlError(known, detail ?? 'the server ended the stream')
}

/** Ends with a signal of the terminal, and with a reader that goes away (`| head`). Call the answer's `done` at the end. */
export function untilInterrupted({ io }: Context): { stop: AbortSignal; done: () => void } {
  const controller = new AbortController()
  const abort = (): void => controller.abort()
  const forget = io.onInterrupt?.(abort)
  io.stdout.once('error', abort)
  io.stdout.once('close', abort)
  return {
    stop: controller.signal,
    done: () => {
      forget?.()
      io.stdout.off('error', abort)
      io.stdout.off('close', abort)
      controller.abort()
    },
  }
}

/** Waits until a slow reader of ours has taken what was written. */
export async function taken({ io: { stdout } }: Context, stop: AbortSignal): Promise<void> {
  if (stdout.writableNeedDrain) await once(stdout, 'drain', { signal: stop }).catch(() => {})
}

/** A pause that ends early with `stop`. */
export function sleep(milliseconds: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer)
      stop.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, milliseconds)
    stop.addEventListener('abort', end)
    if (stop.aborted) end()
  })
}
