/**
 * The enrolment secret of a node over its life. An operator issues it; `rotating` ones the node itself replaces at each boot:
 * stage 3 is given a new one (`pending`), writes it to its boot medium, and the old one stays good until the new one was used
 * at a stage 1. So a power cut at any moment leaves a medium whose secret opens; and whoever comes with the old one later has a
 * copy of the medium.
 */

/** Who replaces a secret: an operator only, or the node at each of its boots too. */
export const secretKinds = ['static', 'rotating'] as const
export type SecretKind = (typeof secretKinds)[number]

/** Why a secret opens nothing any more, for good. */
export const secretEnds = ['replaced', 'rotated-out', 'revoked'] as const
export type SecretEnd = (typeof secretEnds)[number]

/**
 * What a secret of a node is now. `current` and `pending` open stage 1, nothing else does. `replaced`: an operator issued
 * another; `rotated-out`: the node has used a newer one.
 */
export type SecretState = 'current' | 'pending' | 'expired' | SecretEnd

/** As much of a secret as decides it. */
export interface SecretStanding {
  readonly id: string
  /** The secret that this one is to take the place of; null where an operator issued it. */
  readonly replaces: string | null
  readonly expires_at: string | null
  readonly ended: SecretEnd | null
}

/**
 * The state of a secret of the node whose current one is `current`. What is pending hangs on the secret that it replaces: when
 * an operator issues or revokes that one, nothing that was pending opens either.
 */
export function secretState(secret: SecretStanding, current: string | null, now: Date): SecretState {
  const isCurrent = secret.id === current
  if (!isCurrent && secret.ended !== null) return secret.ended
  if (!isCurrent && (secret.replaces === null || secret.replaces !== current)) return 'replaced'
  if (secret.expires_at !== null && secret.expires_at <= now.toISOString()) return 'expired'
  return isCurrent ? 'current' : 'pending'
}
