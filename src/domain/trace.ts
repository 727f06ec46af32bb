import { createHash } from 'node:crypto'

/**
 * A boot session is one trace. Its ids come from the session's id, so that every process, before and after a restart,
 * names the same trace and the same spans: what is exported twice is the same twice.
 */

/** Boots by what became of their traces in one process. */
export interface TraceCounts {
  readonly exported: number
  readonly dropped: number
  readonly waiting: number
}

/** The trace of a session: 32 hexadecimal digits (W3C Trace Context). */
export function traceIdOf(session: string): string {
  return hexOf(`pawl.trace/v1 ${session}`, 16)
}

/** A span of that trace by its place in it, like `stage2/downloaded`: 16 hexadecimal digits. The empty place is the root. */
export function spanIdOf(session: string, place: string): string {
  return hexOf(`pawl.span/v1 ${session} ${place}`, 8)
}

function hexOf(text: string, bytes: number): string {
  const hex = createHash('sha256').update(text).digest('hex')
  // All zeros is no id. No hash is known that begins so, and none is looked for.
  return hex.slice(0, bytes * 2)
}
