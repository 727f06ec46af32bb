import type { EvidenceResult } from '../domain/evidence.ts'
import { hashesEqual, hashSecret, parseToken, type SecretHash } from '../domain/token.ts'
import type { Queries } from '../storage/database.ts'
import type { NodeRecord } from '../storage/nodes.ts'
import { findClaim } from '../storage/pending.ts'
import { type PresentedClaim, provesClaim } from './claim.ts'

/** What a request presents of a secret; only stage 1 has any of it. */
export interface PresentedSecret {
  /** The enrolment secret. */
  readonly secret?: string | undefined
  /** What a machine that was just approved has in place of a secret. */
  readonly claim?: PresentedClaim | undefined
}

/** A claim stands in for a secret that the media does not carry, never beside one. */
export async function checkSecret(
  db: Queries,
  node: NodeRecord,
  presented: PresentedSecret,
): Promise<EvidenceResult> {
  const { secret, claim } = presented
  if (secret !== undefined && secret !== '') return compareSecret(node, secret)
  if (claim === undefined) return 'absent'
  return provesClaim(await findClaim(db, node.id), claim) ? 'proof' : 'absent'
}

function compareSecret(node: NodeRecord, secret: string): EvidenceResult {
  const presented = parseToken(secret)
  if (presented === undefined || node.secret_hash === null) return 'wrong'
  const right =
    presented.id === node.secret_id &&
    hashesEqual(hashSecret(presented.secret), node.secret_hash as SecretHash)
  return right ? 'proof' : 'wrong'
}
