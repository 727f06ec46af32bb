import type { Socket } from 'node:net'

/** One HTTP/1.1 request. The path holds tokens where iPXE has them there: it is never shown. */
export interface WireRequest {
  readonly method: 'GET' | 'HEAD' | 'POST'
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/** Its answer. `body` is empty where it went to a sink, or there is none. */
export interface WireAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
  /** Whether the connection can take another request. */
  readonly reusable: boolean
}

/** A request that got no whole answer. `kind` is what it is counted as. */
export class WireError extends Error {
  readonly kind: string

  constructor(kind: string) {
    super(kind)
    this.kind = kind
  }
}

/** Takes bytes as they come. False: no more is wanted, and the connection is cut. */
export type Sink = (chunk: Buffer) => boolean

const maxHeadBytes = 64 * 1024
/** A connection on which nothing comes for this long is given up, as iPXE's scripts and our agents do. */
export const silenceMilliseconds = 60_000
const headEnd = Buffer.from('\r\n\r\n')

/** Writes a request, and reads its answer; rejects with a WireError. One at a time on a connection. */
export function ask(socket: Socket, name: string, request: WireRequest, sink?: Sink): Promise<WireAnswer> {
  return new Promise((resolve, reject) => {
    const answer = new AnswerReader(request.method === 'HEAD', sink)
    const finish = (): void => {
      socket.off('data', onData)
      socket.off('error', onError)
      socket.off('close', onClose)
      socket.off('timeout', onTimeout)
    }
    const fail = (kind: string): void => {
      finish()
      socket.destroy()
      reject(new WireError(kind))
    }
    const onData = (chunk: Buffer): void => {
      const state = answer.take(chunk)
      if (state === 'more') return
      if (state !== 'whole') fail(state)
      else {
        finish()
        resolve(answer.result())
      }
    }
    const onError = (error: NodeJS.ErrnoException): void => fail(faultOf(error))
    const onClose = (): void => fail('connection closed before the answer was whole')
    const onTimeout = (): void => fail('no byte for a minute')
    socket.on('data', onData)
    socket.on('error', onError)
    socket.on('close', onClose)
    socket.on('timeout', onTimeout)
    socket.setTimeout(silenceMilliseconds)
    socket.write(headOf(name, request), 'latin1')
  })
}

/** What an error of the network is counted as: without addresses, which would make each its own kind. */
export function faultOf({ code, message }: NodeJS.ErrnoException): string {
  const known: Readonly<Record<string, string>> = {
    ECONNREFUSED: 'connection refused',
    ECONNRESET: 'connection reset',
    EPIPE: 'connection reset',
    ETIMEDOUT: 'connection timed out',
    EADDRNOTAVAIL: 'no local port left',
    EADDRINUSE: 'no local port left',
    EMFILE: 'no file descriptor left',
    EHOSTUNREACH: 'no way to the host',
    ENETUNREACH: 'no way to the host',
  }
  return known[code ?? ''] ?? code ?? message.slice(0, 80)
}

function headOf(name: string, { method, path, headers = {}, body }: WireRequest): string {
  const lines = [`${method} ${path} HTTP/1.1`, `Host: ${name}`]
  for (const [key, value] of Object.entries(headers)) lines.push(`${key}: ${value}`)
  if (method === 'POST') lines.push(`Content-Length: ${Buffer.byteLength(body ?? '', 'latin1')}`)
  return `${lines.join('\r\n')}\r\n\r\n${body ?? ''}`
}

/** Reads one answer. Pawl says the length of every body; an answer without one is over when the connection is. */
class AnswerReader {
  readonly #isHead: boolean
  readonly #sink: Sink | undefined
  #head: Buffer | undefined = Buffer.alloc(0)
  #status = 0
  #headers: Record<string, string> = {}
  #missing = 0
  readonly #parts: Buffer[] = []

  constructor(isHead: boolean, sink: Sink | undefined) {
    this.#isHead = isHead
    this.#sink = sink
  }

  /** `more` is to come, it is `whole`, or what is wrong with it. */
  take(chunk: Buffer): string {
    if (this.#head === undefined) return this.#body(chunk)
    const head = this.#head.length === 0 ? chunk : Buffer.concat([this.#head, chunk])
    const end = head.indexOf(headEnd)
    if (end < 0) {
      this.#head = head
      return head.length > maxHeadBytes ? 'headers without an end' : 'more'
    }
    this.#head = undefined
    const fault = this.#parse(head.toString('latin1', 0, end))
    if (fault !== undefined) return fault
    return this.#body(head.subarray(end + 4))
  }

  result(): WireAnswer {
    return {
      status: this.#status,
      headers: this.#headers,
      body: Buffer.concat(this.#parts),
      reusable: this.#headers.connection?.toLowerCase() !== 'close',
    }
  }

  #parse(text: string): string | undefined {
    const [first = '', ...lines] = text.split('\r\n')
    const status = /^HTTP\/1\.[01] (\d{3})/.exec(first)?.[1]
    if (status === undefined) return 'not an HTTP answer'
    this.#status = Number(status)
    for (const line of lines) {
      const colon = line.indexOf(':')
      if (colon > 0) this.#headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim()
    }
    if (this.#isHead || status === '204' || status === '304') return undefined
    const length = this.#headers['content-length']
    if (length === undefined || !/^\d{1,15}$/.test(length)) return 'an answer that does not say its length'
    this.#missing = Number(length)
    return undefined
  }

  #body(chunk: Buffer): string {
    if (chunk.length > this.#missing) return 'more bytes than the answer said'
    this.#missing -= chunk.length
    if (chunk.length > 0) {
      // What is not asked for is kept: an error's few words, in the place of an artifact.
      if (this.#sink === undefined || this.#status >= 300) this.#parts.push(chunk)
      else if (!this.#sink(chunk)) return 'cut on purpose'
    }
    return this.#missing === 0 ? 'whole' : 'more'
  }
}
