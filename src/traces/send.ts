import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { performance } from 'node:perf_hooks'
import { parseRetryAfter } from '../domain/webhook.ts'
import { isPawlError } from '../errors.ts'
import { answerTo, beginningOf, reasonOf } from '../outgoing/answer.ts'
import { type Resolve, resolveHost } from '../outgoing/resolve.ts'

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
    const request = requestTo(to, signals, resolve)
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

function requestTo({ url, headers, ca }: TraceTarget, signal: AbortSignal, resolve: Resolve) {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const common = {
    method: 'POST',
    host,
    port: url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port),
    path: url.pathname,
    headers: {
      'user-agent': 'pawl',
      ...headers,
      host: url.host,
      'content-type': 'application/x-protobuf',
    },
    agent: false as const,
    lookup: lookupBy(resolve),
    signal,
    maxHeaderSize: 16 * 1024,
  }
  if (url.protocol === 'http:') return httpRequest(common)
  return httpsRequest({
    ...common,
    minVersion: 'TLSv1.2',
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(ca === undefined ? {} : { ca }),
  })
}

function lookupBy(resolve: Resolve): LookupFunction {
  return (host, options, done) => {
    resolve(host).then(
      (addresses) => {
        const all = addresses.map((address) => ({ address, family: isIP(address) }))
        const [first] = all
        if (first === undefined) done(Object.assign(new Error('no address'), { code: 'ENOTFOUND' }), '', 4)
        else if (options.all === true) done(null, all)
        else done(null, first.address, first.family)
      },
      (error: NodeJS.ErrnoException) => done(error, '', 4),
    )
  }
}
