import { createHash, createHmac } from 'node:crypto'
import { PawlError } from '../errors.ts'
import type { Branded } from './brand.ts'
import { eventKinds } from './event.ts'
import { quote } from './node.ts'

/**
 * A webhook sends events to a receiver over HTTPS, as Standard Webhooks 1.0 says
 * (github.com/standard-webhooks/standard-webhooks): three headers, an HMAC over id, time and body, again until it is taken.
 */

/** A webhook's name. */
export type WebhookName = Branded<string, 'WebhookName'>

/** The whole rule for a webhook's name, for schemas. */
export const webhookNamePattern = '^[a-z0-9][a-z0-9-]{0,62}$'

/** A delivery's id, which is its `webhook-id` too; no dot, since dots part what is signed. */
export const deliveryIdPattern = '^msg_[A-Za-z0-9_-]{22}$'

/** The longest URL. */
export const maxUrlCharacters = 2048

/** The largest body: receivers have limits of their own, and 20 kB is what the specification recommends at most. */
export const maxPayloadBytes = 64 * 1024

/** How long a replaced secret goes on signing, beside the new one. */
export const secretOverlapSeconds = 86_400

/**
 * The pauses after each failed try, in seconds, before jitter: 11 tries within 24 hours. The first ones are for a receiver
 * that restarts, the last for a weekend's night without anyone to mend it.
 */
export const retryPauses: readonly number[] = [5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800]

/** A receiver may ask for a longer pause than ours, but not for more than this. */
const longestPauseSeconds = 28_800

/** Reads a webhook's name; throws `invalid`. */
export function parseWebhookName(text: string): WebhookName {
  if (new RegExp(webhookNamePattern).test(text)) return text as WebhookName
  throw new PawlError(
    'invalid',
    `${quote(text)} is not a webhook's name: 1 to 63 of a-z, 0-9 and "-", beginning with a letter or digit`,
  )
}

/** Reads a delivery's id; throws `invalid`. */
export function parseDeliveryId(text: string): string {
  if (new RegExp(deliveryIdPattern).test(text)) return text
  throw new PawlError('invalid', `${quote(text)} is not the id of a delivery: msg_ and 22 characters`)
}

/**
 * Reads the URL of a receiver, or of whose `of` is; throws `invalid`. Returns it as the URL parser spells it, so that an address in octal, in hex or
 * as one number is the dotted one from here on.
 */
export function parseWebhookUrl(
  text: string,
  of = 'webhook',
  hintOnUser = 'the signature is what proves us: a receiver that wants more takes it in the path or query',
): URL {
  const badUrl = (what: string, hint?: string): PawlError =>
    new PawlError('invalid', `the ${of}'s URL ${what}`, hint === undefined ? {} : { hint })
  const url = /^https?:\/\/[^\s\\]+$/i.test(text) && URL.canParse(text) ? new URL(text) : undefined
  // What it holds may be secret: the error does not repeat it.
  if (url === undefined || text.length > maxUrlCharacters || /[^!-~]/.test(text))
    throw badUrl(`is not https://HOST[:PORT][/PATH] of at most ${maxUrlCharacters} characters`)
  if (url.username !== '' || url.password !== '') throw badUrl('holds a user or password', hintOnUser)
  if (text.includes('#')) throw badUrl('has a fragment, which is never sent')
  if (url.port === '0') throw badUrl('names port 0')
  return url
}

const secretLength = 20

/**
 * A URL for eyes other than its owner's: values of the query, and parts of the path that are long enough to be a secret (20
 * characters; several chat services put theirs there), are `***`.
 */
export function maskUrl(url: URL): string {
  const path = url.pathname
    .split('/')
    .map((part) => (part.length >= secretLength ? '***' : part))
    .join('/')
  const query = [...url.searchParams.keys()].map((name) =>
    name.length >= secretLength ? '***' : `${encodeURIComponent(name)}=***`,
  )
  return `${url.origin}${path}${query.length === 0 ? '' : `?${query.join('&')}`}`
}

/** Reads which kinds are sent: names, and `PREFIX*` or `*`; sorted, each once. Throws `invalid` for one that fits no kind. */
export function parseKinds(texts: readonly string[]): string[] {
  if (texts.length === 0) {
    throw new PawlError('invalid', 'a webhook needs a kind of event', {
      hint: 'give "*" for all of them; docs/errors.md lists the kinds',
    })
  }
  for (const text of texts) {
    if (Object.keys(eventKinds).some((kind) => fits(text, kind))) continue
    throw new PawlError('invalid', `${quote(text)} is no kind of event`, {
      hint: 'docs/errors.md lists the kinds; "session-*" is all that begin so, "*" every one',
    })
  }
  return [...new Set(texts)].sort()
}

/** Whether a kind is among those that are sent. */
export function kindWanted(patterns: readonly string[], kind: string): boolean {
  return patterns.some((pattern) => fits(pattern, kind))
}

function fits(pattern: string, kind: string): boolean {
  return pattern.endsWith('*') ? kind.startsWith(pattern.slice(0, -1)) : pattern === kind
}

/** The text of a secret for receivers: `whsec_` and base64, as the specification writes it. */
export function webhookSecret(bytes: Uint8Array): string {
  if (bytes.length < 24 || bytes.length > 64) throw new RangeError('a webhook secret has 24 to 64 bytes')
  return `whsec_${Buffer.from(bytes).toString('base64')}`
}

/** The header `webhook-signature`: one signature for each secret, `v1,` and base64, with a space between. */
export function webhookSignature(
  secrets: readonly string[],
  message: { readonly id: string; readonly timestamp: number; readonly body: string },
): string {
  const signed = `${message.id}.${message.timestamp}.${message.body}`
  return secrets
    .map((secret) => Buffer.from(secret.slice('whsec_'.length), 'base64'))
    .map((key) => `v1,${createHmac('sha256', key).update(signed).digest('base64')}`)
    .join(' ')
}

/** The id of an event's delivery to a webhook: the same whenever it is made again, so that the receiver knows a repetition. */
export function deliveryId(webhook: string, eventHash: string): string {
  const digest = createHash('sha256')
    .update(JSON.stringify([webhook, eventHash]))
    .digest('base64url')
  return `msg_${digest.slice(0, 22)}`
}

/** What a delivery carries: the API's event. */
export interface PayloadEvent {
  readonly at: string
  readonly kind: string
  readonly detail: Readonly<Record<string, unknown>>
}

/** The body of a delivery, version 1. A detail that would make it too large is left out, and `truncated` says so. */
export function payloadOf(event: PayloadEvent): string {
  const whole = bodyOf(event)
  if (Buffer.byteLength(whole) <= maxPayloadBytes) return whole
  return bodyOf({ ...event, detail: {} }, { truncated: true })
}

function bodyOf(event: PayloadEvent, more: { readonly truncated?: true } = {}): string {
  return JSON.stringify({ type: event.kind, timestamp: event.at, version: 1, ...more, data: event })
}

/** When a delivery that failed for the `tries`th time is tried again; undefined where that was the last time. */
export function nextTry(
  tries: number,
  now: Date,
  options: { readonly retryAfterSeconds?: number | undefined; readonly random: number },
): Date | undefined {
  const pause = retryPauses[tries - 1]
  if (pause === undefined) return undefined
  const jittered = pause * (0.8 + 0.4 * options.random)
  const asked = Math.min(options.retryAfterSeconds ?? 0, longestPauseSeconds)
  return new Date(now.getTime() + Math.round(1000 * Math.max(jittered, asked)))
}

/** Reads `Retry-After`: seconds or an HTTP date (RFC 9110 §10.2.3); undefined for all else. */
export function parseRetryAfter(text: string | undefined, now: Date): number | undefined {
  if (text === undefined || text.length > 64) return undefined
  if (/^\d{1,9}$/.test(text)) return Number(text)
  const time = /GMT$/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(time) ? undefined : Math.max(0, Math.ceil((time - now.getTime()) / 1000))
}
