import { createHash, type Hash } from 'node:crypto'
import type { Connections } from './connections.ts'
import type { Behaviour, Step } from './plan.ts'
import type { Tally } from './tally.ts'
import { ask, type WireAnswer, WireError, type WireRequest } from './wire.ts'

/** What the requests of one node share. */
export interface Client {
  readonly connections: Connections
  readonly behaviour: Behaviour
  readonly tally: Tally
  readonly name: string
  /** Aborted when the storm ends, or the node's power goes. */
  readonly signal: AbortSignal
}

/** A request that did not succeed: it failed on its way, or was answered with something else than success. */
export class Failed extends Error {
  readonly kind: string
  /** Undefined where there was no whole answer. */
  readonly status: number | undefined
  readonly retryAfterSeconds: number

  constructor(step: Step, kind: string, status?: number, retryAfterSeconds = 0) {
    super(`${step}: ${kind}`)
    this.kind = kind
    this.status = status
    this.retryAfterSeconds = retryAfterSeconds
  }
}

/** Asks once as the firmware, which keeps its connection. Throws Failed. */
export async function askAsFirmware(
  client: Client,
  step: Step,
  request: WireRequest,
  sink?: (chunk: Buffer) => boolean,
): Promise<WireAnswer> {
  const { connections, behaviour } = client
  return attempt(client, step, async () => {
    const socket = await connections.firmware()
    const answer = await ask(socket, client.name, request, sink)
    if (answer.reusable && behaviour.connections === 'pool') connections.keep(socket)
    else connections.end(socket)
    return answer
  })
}

/** Asks once as a system of ours, over a connection of its own. Throws Failed. */
export async function askAsAgent(
  client: Client,
  step: Step,
  request: WireRequest,
  sink?: (chunk: Buffer) => boolean,
): Promise<WireAnswer> {
  return attempt(client, step, async () => {
    const socket = await client.connections.agent()
    const answer = await ask(socket, client.name, request, sink)
    client.connections.end(socket)
    return answer
  })
}

/** Sends a request as a system of ours, and cuts the connection when the answer begins to come: it is lost. */
export async function askInVain(client: Client, step: Step, request: WireRequest): Promise<void> {
  const socket = await client.connections.agent().catch((error: unknown) => failedBy(client, step, error))
  socket.prependOnceListener('data', () => socket.destroy())
  await ask(socket, client.name, request).catch((error: unknown) => {
    if (client.signal.aborted) throw client.signal.reason
    if (!(error instanceof WireError)) throw error
  })
}

async function attempt(client: Client, step: Step, send: () => Promise<WireAnswer>): Promise<WireAnswer> {
  const { tally, signal, connections } = client
  if (signal.aborted) throw signal.reason
  const begun = performance.now() - connections.heldMilliseconds
  const answer = await send().catch((error: unknown) => failedBy(client, step, error))
  if (answer.status >= 200 && answer.status < 300) {
    tally.time(step, performance.now() - connections.heldMilliseconds - begun)
    return answer
  }
  const retryAfter = secondsOf(answer.headers['retry-after'])
  if (answer.status === 503) tally.busy(retryAfter)
  else tally.fail(`${step}: HTTP ${answer.status}`)
  throw new Failed(step, `HTTP ${answer.status}`, answer.status, retryAfter)
}

function failedBy({ tally, signal }: Client, step: Step, error: unknown): never {
  if (signal.aborted) throw signal.reason
  if (!(error instanceof WireError)) throw error
  if (error.kind !== 'cut on purpose') tally.fail(error.kind)
  throw new Failed(step, error.kind)
}

function secondsOf(header: string | undefined): number {
  return header !== undefined && /^\d{1,4}$/.test(header) ? Number(header) : 0
}

/** Counts and hashes the bytes of an artifact as they come; goes on after a cut. */
export class Received {
  readonly #hash: Hash | undefined
  readonly #tally: Tally
  #cutAt: number
  bytes = 0

  /** `cutAt`: as if the connection broke after so many bytes, once. */
  constructor(tally: Tally, verify: boolean, cutAt = Number.POSITIVE_INFINITY) {
    this.#tally = tally
    this.#hash = verify ? createHash('sha256') : undefined
    this.#cutAt = cutAt
  }

  readonly take = (chunk: Buffer): boolean => {
    this.bytes += chunk.length
    this.#tally.bytes(chunk.length)
    this.#hash?.update(chunk)
    if (this.bytes < this.#cutAt) return true
    this.#cutAt = Number.POSITIVE_INFINITY
    return false
  }

  /** The SHA-256 of all of them, once; undefined where nobody wants to know. */
  digest(): string | undefined {
    return this.#hash?.digest('hex')
  }
}
