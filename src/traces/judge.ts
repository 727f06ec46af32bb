import type { TraceOutcome } from './send.ts'

/** What follows from an answer. */
export type Judged =
  | { readonly kind: 'taken'; readonly rejected: number }
  /** It will never be taken. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** Not now: `seconds` is the pause that was asked for. */
  | { readonly kind: 'later'; readonly reason: string; readonly seconds: number | undefined }

/**
 * Statuses that say nothing of what was sent: the settings are wrong, or something between us and the collector is. OTLP retries
 * 429, 502, 503 and 504 only; where a key has run out, boots need not be lost before somebody has seen it.
 */
const notYet: Readonly<Record<number, string>> = {
  401: 'it wants other credentials (otlpHeadersFile)',
  403: 'it wants other credentials (otlpHeadersFile)',
  404: 'it has no such path (otlpEndpoint)',
  405: 'it has no such path (otlpEndpoint)',
  407: 'a proxy wants credentials',
  408: 'it had no time',
  429: 'it has too much to do',
  502: 'what stands before it cannot reach it',
  503: 'it has too much to do',
  504: 'what stands before it cannot reach it',
}

/** Judges an answer. `impatient`: it has failed often enough that the request itself may be why. */
export function judge(
  outcome: TraceOutcome,
  options: { readonly rejectedIn: (answer: Uint8Array) => number; readonly impatient: boolean },
): Judged {
  if (outcome.kind === 'failed') return { kind: 'later', reason: outcome.reason, seconds: undefined }
  const { status, body, retryAfterSeconds: seconds } = outcome
  if (status >= 200 && status < 300) return { kind: 'taken', rejected: options.rejectedIn(body) }
  const known = notYet[status]
  if (known !== undefined) return { kind: 'later', reason: `${status}: ${known}`, seconds }
  if (status >= 300 && status < 400)
    return { kind: 'later', reason: `${status}: redirects are not followed (otlpEndpoint)`, seconds }
  if (status >= 500 && !options.impatient) return { kind: 'later', reason: `${status}: it failed`, seconds }
  return { kind: 'refused', reason: String(status) }
}
