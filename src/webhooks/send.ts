import type { ClientRequest } from 'node:http'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { AddressRange } from '../domain/address.ts'
import { parseRetryAfter, webhookSignature } from '../domain/webhook.ts'
import { addressUse } from '../domain/webhook-address.ts'
import { answerTo, beginningOf, noAddress, reasonOf } from '../outgoing/answer.ts'
import { type Resolve, resolveHost } from '../outgoing/resolve.ts'

/** Where a webhook is sent, and what proves both ends to each other. */
export interface WebhookTarget {
  readonly url: URL
  /** PEM: the only roots that the receiver is believed by; null: the system's. */
  readonly ca: string | null
  /** The secrets that sign, the newest first. */
  readonly secrets: readonly string[]
}

/** What is sent. */
export interface WebhookMessage {
  readonly id: string
  readonly body: string
  readonly now: Date
}

/** What came of it: an answer, or why there is none. */
export type SendOutcome =
  | {
      readonly kind: 'answered'
      readonly status: number
      /** The beginning of the answer's body. */
      readonly body: string
      readonly retryAfterSeconds: number | undefined
      readonly milliseconds: number
    }
  | { readonly kind: 'failed'; readonly reason: string; readonly milliseconds: number }

/** What decides whether and how long a message may be sent. */
export interface SendOptions {
  readonly allowed: readonly AddressRange[]
  readonly resolve?: Resolve
  readonly timeoutMilliseconds?: number
}

const defaultTimeoutMilliseconds = 10_000

/** A receiver that may not be sent to; the message says which address is meant. */
class NotAllowed extends Error {}

/**
 * Sends one message, once. Redirects are not followed: they would lead where nobody judged. Never rejects: what goes wrong
 * is the outcome.
 */
export async function sendWebhook(
  target: WebhookTarget,
  message: WebhookMessage,
  options: SendOptions,
): Promise<SendOutcome> {
  const begun = performance.now()
  const cut = new AbortController()
  const timer = setTimeout(() => cut.abort(), options.timeoutMilliseconds ?? defaultTimeoutMilliseconds)
  try {
    const { status, body, retryAfter } = await exchange(target, message, options, cut.signal)
    return {
      kind: 'answered',
      status,
      body,
      retryAfterSeconds: parseRetryAfter(retryAfter, message.now),
      milliseconds: Math.round(performance.now() - begun),
    }
  } catch (error) {
    const reason = cut.signal.aborted ? 'no answer in time' : whyOf(error)
    return { kind: 'failed', reason, milliseconds: Math.round(performance.now() - begun) }
  } finally {
    clearTimeout(timer)
  }
}

async function exchange(
  target: WebhookTarget,
  message: WebhookMessage,
  { allowed, resolve = resolveHost }: SendOptions,
  signal: AbortSignal,
): Promise<{ status: number; body: string; retryAfter: string | undefined }> {
  const addresses = await unless(signal, openAddresses(target.url, allowed, resolve))
  const request = requestTo(target, addresses, signal)
  const timestamp = Math.floor(message.now.getTime() / 1000)
  const body = Buffer.from(message.body)
  for (const [name, value] of Object.entries({
    'content-type': 'application/json',
    'content-length': String(body.length),
    'user-agent': 'pawl',
    'webhook-id': message.id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': webhookSignature(target.secrets, { ...message, timestamp }),
  }))
    request.setHeader(name, value)
  const response = await answerTo(request, body)
  const text = (await beginningOf(response).finally(() => request.destroy())).toString('utf8')
  return { status: response.statusCode ?? 0, body: text, retryAfter: response.headers['retry-after'] }
}

/**
 * The addresses of the receiver that may be connected to. They are what is connected to, by number: a name that is asked
 * for again could give another answer (DNS rebinding).
 */
async function openAddresses(
  url: URL,
  allowed: readonly AddressRange[],
  resolve: Resolve,
): Promise<readonly string[]> {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const found = isIP(host) === 0 ? await resolve(host) : [host]
  if (found.length === 0) throw new NotAllowed(noAddress)
  const judged = found.slice(0, 16).map((address) => ({ address, use: addressUse(address, allowed) }))
  const open = judged.filter(({ use }) => use === 'listed' || (use === 'public' && url.protocol === 'https:'))
  if (open.length > 0) return open.map(({ address }) => address)
  const closed = judged.find(({ use }) => use === 'closed')
  throw new NotAllowed(
    closed === undefined
      ? 'http:// is for networks that webhookAllowedNetworks lists'
      : `${closed.address} is not of the public Internet, nor in webhookAllowedNetworks`,
  )
}

function requestTo(
  { url, ca }: WebhookTarget,
  addresses: readonly string[],
  signal: AbortSignal,
): ClientRequest {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const lookup: LookupFunction = (_host, options, done) => {
    const all = addresses.map((address) => ({ address, family: isIP(address) }))
    const [first] = all
    if (options.all === true) done(null, all)
    else done(null, first?.address ?? '', first?.family ?? 4)
  }
  const common = {
    method: 'POST',
    host,
    port: url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port),
    path: `${url.pathname}${url.search}`,
    headers: { host: url.host },
    agent: false as const,
    lookup,
    signal,
    maxHeaderSize: 16 * 1024,
  }
  if (url.protocol === 'http:') return httpRequest(common)
  return httpsRequest({
    ...common,
    minVersion: 'TLSv1.2',
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(ca === null ? {} : { ca }),
  })
}

/** Waits for `work` no longer than the signal allows. */
function unless<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true })
    work.then(resolve, reject)
  })
}

function whyOf(error: unknown): string {
  return error instanceof NotAllowed ? error.message : reasonOf(error, '--ca')
}
