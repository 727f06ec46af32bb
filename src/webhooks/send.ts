import { performance } from 'node:perf_hooks'
import type { AddressRange } from '../domain/address.ts'
import { parseRetryAfter, webhookSignature } from '../domain/webhook.ts'
import { answerTo, beginningOf, reasonOf } from '../outgoing/answer.ts'
import type { Resolve } from '../outgoing/resolve.ts'
import { NotAllowed, openAddresses, requestTo, unless } from '../outgoing/target.ts'

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
  { allowed, resolve }: SendOptions,
  signal: AbortSignal,
): Promise<{ status: number; body: string; retryAfter: string | undefined }> {
  const addresses = await unless(
    signal,
    openAddresses(target.url, { allowed, setting: 'webhookAllowedNetworks', resolve }),
  )
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

function whyOf(error: unknown): string {
  return error instanceof NotAllowed ? error.message : reasonOf(error, '--ca')
}
