import { createRequire } from 'node:module'
import type { FastifyError } from 'fastify'
import { type ErrorCode, isPawlError, PawlError } from '../errors.ts'

/** The names of statuses. An import of node:http would load its WebSocket client too, which is a fortieth of a start. */
export const { STATUS_CODES } = createRequire(import.meta.url)('node:http') as typeof import('node:http')

/** The one place where a code becomes an HTTP status. A Record over ErrorCode: a gap does not compile. */
const statuses: Readonly<Record<ErrorCode, number>> = {
  usage: 400,
  invalid: 400,
  unauthenticated: 401,
  forbidden: 403,
  'sign-in-refused': 403,
  'cross-site': 403,
  refused: 403,
  'not-found': 404,
  exists: 409,
  conflict: 409,
  'precondition-failed': 412,
  'idempotency-key-reused': 422,
  'too-large': 413,
  'digest-mismatch': 422,
  'render-failed': 422,
  'too-many-attempts': 429,
  internal: 500,
  'key-unreadable': 500,
  'certificate-invalid': 500,
  'signature-invalid': 422,
  'cluster-failed': 502,
  unreachable: 502,
  overloaded: 503,
  'join-unavailable': 503,
  'too-many-boots': 503,
  'storage-unavailable': 503,
  'store-unavailable': 503,
  'disk-full': 507,
}

/** The HTTP status of an error code. */
export function statusOf(code: ErrorCode): number {
  return statuses[code]
}

/** A problem document (RFC 9457). `type` is left out, so it is about:blank and `title` is the status's own phrase. */
export interface Problem {
  readonly title: string
  readonly status: number
  /** What went wrong: names the thing and the limit. */
  readonly detail: string
  /** Stable, for scripts: a code of src/errors.ts. */
  readonly code: ErrorCode
  /** What to do about it. */
  readonly hint?: string
  /** Under which the log has the cause; on errors of the server only. */
  readonly requestId?: string
}

/** The document for an error. Only what may be shown outside is in it. */
export function problemOf(error: PawlError, requestId: string): Problem {
  const status = statusOf(error.code)
  return {
    title: STATUS_CODES[status] ?? 'Error',
    status,
    detail: error.message,
    code: error.code,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(status >= 500 ? { requestId } : {}),
  }
}

/** Any error as ours: what Fastify found wrong with the request keeps its sense, the unknown becomes a bland `internal`. */
export function asPawlError(error: unknown): PawlError {
  if (isPawlError(error)) return error
  const status = (error as Partial<FastifyError> | null)?.statusCode ?? 500
  const options = { cause: error }
  if (status === 413) return new PawlError('too-large', 'the body is larger than this server takes', options)
  if (status === 404) return new PawlError('not-found', 'there is nothing at this path', options)
  if (status === 415)
    return new PawlError('invalid', 'the body is not of a type that this path takes', options)
  if (status === 503)
    return new PawlError('overloaded', 'the server did not come to an answer in time', options)
  if (status >= 400 && status < 500) return new PawlError('invalid', 'the request is malformed', options)
  return new PawlError('internal', 'an internal error; the log has its cause under the request id', options)
}
