import { Refusal, type RefusalCause } from '../domain/refusal.ts'
import { type ErrorCode, isPawlError, PawlError } from '../errors.ts'

/** An error as it goes from one process to another. */
export interface PackedError {
  readonly code: ErrorCode | 'unknown'
  readonly message: string
  readonly hint?: string
  readonly internal?: string
  readonly retryAfterSeconds?: number
  /** Of a refusal; whom it is about is on record already. */
  readonly why?: RefusalCause
}

/** Packs an error. Of one that is not ours nothing goes along: the log of this process has it. */
export function packError(error: unknown): PackedError {
  if (!isPawlError(error)) return { code: 'unknown', message: '' }
  const { code, message, hint, internal, retryAfterSeconds } = error
  return {
    code,
    message,
    ...(hint === undefined ? {} : { hint }),
    ...(internal === undefined ? {} : { internal }),
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    ...(error instanceof Refusal ? { why: error.why } : {}),
  }
}

/** The same error again. */
export function unpackError({ code, message, why, ...options }: PackedError): Error {
  if (why !== undefined) return new Refusal(why, {}, options)
  return code === 'unknown'
    ? new Error('the process that writes failed; its own line in the log tells of what')
    : new PawlError(code, message, options)
}
