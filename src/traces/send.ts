import { isIP } from 'node:net'
import { performance } from 'node:perf_hooks'
import { parseRetryAfter } from '../domain/webhook.ts'
import { isPawlError } from '../errors.ts'
import { answerTo, beginningOf, noAddress, reasonOf } from '../outgoing/answer.ts'
import { type Resolve, resolveHost } from '../outgoing/resolve.ts'
import { hostOf, requestTo, unless } from '../outgoing/target.ts'

/** Where traces are sent. Unlike a webhook's, its address is of the server's own settings: any may be named. */
export interface TraceTarget {
  readonly url: URL
  /** May hold secrets. */
  readonly headers: Readonly<Record<string, string>>
  /** PEM: the only roots that the collector is believed by; undefined: the system's. */
  readonly ca: string | undefined
  readonly timeoutMilliseconds: number
}

/** What came of a request: an answer, or why there is none, in words without a secret. */
export type TraceOutcome =
  | {
      readonly kind: 'answered'
      readonly status: number
      /** The beginning of the answer's body. */
      readonly body: Uint8Array
      readonly retryAfterSeconds: number | undefined
      readonly milliseconds: number
    }
  | { readonly kind: 'failed'; readonly reason: string; readonly milliseconds: number }

/** What a test wants different, and what cuts a request off. */
export interface SendOptions {
  readonly now: Date
  readonly signal?: AbortSignal
  readonly resolve?: Resolve
}

/**
 * Sends one request by OTLP/HTTP in protobuf, once; it ends within its time, answer included. Redirects are not followed: they
 * would take the headers along. Never rejects.
 */
export async function sendTraces(
  target: TraceTarget | (() => TraceTarget),
  body: Uint8Array,
  { now, signal, resolve = resolveHost }: SendOptions,
): Promise<TraceOutcome> {
  const begun = performance.now()
  const milliseconds = (): number => Math.round(performance.now() - begun)
  let timer: NodeJS.Timeout | undefined
  const cut = new AbortController()
  try {
    const to = typeof target === 'function' ? target() : target
    timer = setTimeout(() => cut.abort(), to.timeoutMilliseconds)
    const signals = signal === undefined ? cut.signal : AbortSignal.any([cut.signal, signal])
    const addresses = await unless(signals, addressesOf(to.url, resolve))
    const request = requestTo({ url: to.url, ca: to.ca ?? null }, addresses, signals)
    const headers = { 'user-agent': 'pawl', ...to.headers, host: to.url.host }
    for (const [name, value] of Object.entries({ ...headers, 'content-type': 'application/x-protobuf' }))
      request.setHeader(name, value)
    const response = await answerTo(request, Buffer.from(body))
    const answer = await beginningOf(response).finally(() => request.destroy())
    return {
      kind: 'answered',
      status: response.statusCode ?? 0,
      body: answer,
      retryAfterSeconds: parseRetryAfter(response.headers['retry-after'], now),
      milliseconds: milliseconds(),
    }
  } catch (error) {
    return { kind: 'failed', reason: whyOf(error, cut.signal), milliseconds: milliseconds() }
  } finally {
    clearTimeout(timer)
  }
}

function whyOf(error: unknown, signal: AbortSignal): string {
  if (signal.aborted) return 'no answer in time'
  return isPawlError(error) ? error.message : reasonOf(error, 'otlpCaFile')
}

/** The addresses of a collector: any, since the server's own settings name it. */
async function addressesOf(url: URL, resolve: Resolve): Promise<readonly string[]> {
  const host = hostOf(url)
  const found = isIP(host) === 0 ? await resolve(host) : [host]
  if (found.length === 0) throw Object.assign(new Error(noAddress), { code: 'ENOTFOUND' })
  return found
}
