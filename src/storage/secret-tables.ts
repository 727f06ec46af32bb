import type { SecretEnd, SecretKind } from '../domain/secret.ts'

/**
 * An enrolment secret of a node. Which one is current is in the node's own row (`secret_id`), as in releases before this table,
 * so that replicas of either release agree; a secret that such a release issued may have no row here.
 */
export interface NodeSecretRow {
  id: string
  node: string
  secret_hash: string
  kind: SecretKind
  issued_at: string
  /** `operator:NAME`, or `server` for one that a node was given at its stage 3. */
  issued_by: string
  /** The secret that it is to take the place of, and the session that was given it: both, or null where an operator issued it. */
  replaces: string | null
  session: string | null
  /** How long it and those after it are good for; null: for ever. */
  lifetime_seconds: number | null
  expires_at: string | null
  /** When the node said that it is on its medium, and why it is not. */
  written_at: string | null
  fault: string | null
  /** When its coming end was told. */
  warned_at: string | null
  last_used_at: string | null
  last_used_from: string | null
  ended: SecretEnd | null
  ended_at: string | null
}
