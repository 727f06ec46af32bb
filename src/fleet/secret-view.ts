import type { SecretKind } from '../domain/secret.ts'
import type { NodeSecretRow } from '../storage/secret-tables.ts'
import type { NodeRow } from '../storage/tables.ts'

/** A node's enrolment secret as operators see it; never the secret. */
export interface SecretView {
  readonly issued: boolean
  /** `issued` ones may have run out: see `expiresAt`. */
  readonly state: 'none' | 'issued' | 'revoked'
  /** Its name in events; null where there is none. */
  readonly id: string | null
  readonly kind: SecretKind | null
  readonly issuedAt: string | null
  readonly expiresAt: string | null
  readonly lastUsedAt: string | null
  readonly lastUsedFrom: string | null
  /** The one that the node was given last to take its place and has not come with yet. */
  readonly next: {
    readonly id: string
    readonly issuedAt: string
    /** When the node said that it is on its medium. */
    readonly writtenAt: string | null
    /** Why it is not, in the node's words. */
    readonly fault: string | null
  } | null
}

/** Shows the secret of a node; `rows` are its own, the newest first. */
export function secretOf(
  { secret_id: current }: Pick<NodeRow, 'secret_id'>,
  rows: readonly NodeSecretRow[],
): SecretView {
  const row = rows.find(({ id }) => id === current)
  const next = rows.find(({ replaces, ended }) => replaces !== null && replaces === current && ended === null)
  const revoked = current === null && rows.some(({ ended }) => ended === 'revoked')
  return {
    issued: current !== null,
    state: current === null ? (revoked ? 'revoked' : 'none') : 'issued',
    id: current,
    // One that a replica of the release before issued has no row until it is used here.
    kind: current === null ? null : (row?.kind ?? 'static'),
    issuedAt: row?.issued_at ?? null,
    expiresAt: row?.expires_at ?? null,
    lastUsedAt: row?.last_used_at ?? null,
    lastUsedFrom: row?.last_used_from ?? null,
    next:
      next === undefined
        ? null
        : { id: next.id, issuedAt: next.issued_at, writtenAt: next.written_at, fault: next.fault },
  }
}
