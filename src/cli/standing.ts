import { formatAge, formatTime } from './format.ts'
import { type Piece, toned } from './text.ts'

/** Whether a token or certificate is good, and until when; `expiresAt` is null where it has no end. */
export function standingOf(
  { revokedAt, expiresAt }: { readonly revokedAt: string | null; readonly expiresAt: string | null },
  now: Date,
): Piece {
  if (revokedAt !== null) return toned('bad', 'revoked')
  if (expiresAt === null) return 'good'
  return Date.parse(expiresAt) <= now.getTime()
    ? toned('bad', 'expired')
    : `good until ${formatTime(expiresAt)}`
}

/** When and from where it was used last. */
export function usedOf(
  { lastUsedAt, lastUsedFrom }: { readonly lastUsedAt: string | null; readonly lastUsedFrom: string | null },
  now: Date,
): string {
  return lastUsedAt === null ? 'never' : `${formatAge(lastUsedAt, now)} ago from ${lastUsedFrom ?? 'unknown'}`
}
