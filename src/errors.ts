/**
 * One error class and one table of codes. Lower layers throw codes, never HTTP statuses; `http/problem.ts` maps each code
 * to a status with a Record over ErrorCode, so that a gap does not compile. `docs/errors.md` lists them (a test compares).
 */

/** Every code that a caller can see, with what it means. */
export const errorCodes = {
  usage: 'the command or setting is not one Pawl knows, or its value is not of the right form',
  invalid: 'a value is not of the right form, or breaks a limit',
  'not-found': 'the thing named does not exist',
  exists: 'the thing named exists already and is not overwritten',
  conflict: 'the thing is not in a state that allows this',
  'precondition-failed':
    'the thing is not at the revision that the change was made for; the message tells who changed what',
  'idempotency-key-reused': 'an Idempotency-Key came with another request before',
  unauthenticated: 'no valid operator token, session or client certificate was given',
  forbidden: 'the operator does not have the role this needs',
  'sign-in-refused': 'the provider knows the person, or says so, but nobody was signed in',
  'cross-site': 'a change by cookie came without the proof that it is from a page of this server',
  'too-many-attempts': 'too many wrong tokens, sign-ins or codes came from this address in one minute',
  refused: 'a node was not served; the cause is in the event log',
  'too-many-boots': 'one node asked for stage 1 more often than the limit',
  overloaded: 'the server has no room for this request now',
  'join-unavailable':
    'the cluster does not make a credential for the node now: the node asks again, and its timeline says why',
  'too-large': 'the body is larger than the limit',
  'digest-mismatch': 'the bytes do not have the digest they were announced with',
  'render-failed': 'a script cannot be rendered with these values',
  'storage-unavailable': 'the database cannot be used now (locked, full, corrupt or unreachable)',
  'store-unavailable':
    'the artifact store cannot be used now (object storage that is unreachable, or refuses)',
  'disk-full': 'there is no room left on a disk',
  'key-unreadable': 'a key or secret file cannot be read, or its permissions are too loose',
  'certificate-invalid': 'a certificate or key does not fit its purpose',
  'signature-invalid': 'an image is not signed as it must be, or with a certificate that may not sign',
  'cluster-failed': 'a cluster did not do what it was asked for; the message says what was done here',
  unreachable: 'the server does not answer',
  internal: 'an error that should not happen; the log has its cause under the request id',
} as const

/** The name of one kind of error, stable for scripts. */
export type ErrorCode = keyof typeof errorCodes

/** What an error carries beside its message. */
export interface ErrorOptions {
  /** What to do about it, one sentence, shown after the message. */
  readonly hint?: string
  /** For the log only: never shown outside. Must hold no secret. */
  readonly internal?: string
  /** The error under this one, for the log only. */
  readonly cause?: unknown
  /** For `overloaded` and `too-many-boots`: when to ask again, in seconds. */
  readonly retryAfterSeconds?: number
}

/** The one error class. `message` may be shown to whoever asked: it names the thing and the limit, and holds no secret. */
export class PawlError extends Error {
  override readonly name = 'PawlError'
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly internal: string | undefined
  readonly retryAfterSeconds: number | undefined

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.hint = options.hint
    this.internal = options.internal
    this.retryAfterSeconds = options.retryAfterSeconds
  }
}

/** Whether `error` is ours and, when given, of that code. */
export function isPawlError(error: unknown, code?: ErrorCode): error is PawlError {
  return error instanceof PawlError && (code === undefined || error.code === code)
}
