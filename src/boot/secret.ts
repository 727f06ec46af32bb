import type { EvidenceResult } from '../domain/evidence.ts'
import { type Facts, machineFacts } from '../domain/facts.ts'
import { Refusal, type RefusalCause } from '../domain/refusal.ts'
import { type SecretState, secretState } from '../domain/secret.ts'
import { hashesEqual, hashSecret, parseToken, type SecretHash } from '../domain/token.ts'
import type { Queries } from '../storage/database.ts'
import { findClaim } from '../storage/pending.ts'
import type { NodeSecretRow } from '../storage/secret-tables.ts'
import { findAnySecret, findSecret } from '../storage/secrets.ts'
import type { NodeRow } from '../storage/tables.ts'
import { type PresentedClaim, provesClaim } from './claim.ts'
import { readFacts } from './pin.ts'

/** What a request presents of a secret; only stage 1 has any of it. */
export interface PresentedSecret {
  /** The enrolment secret. */
  readonly secret?: string | undefined
  /** What a machine that was just approved has in place of a secret. */
  readonly claim?: PresentedClaim | undefined
  /** What the machine tells of itself, for the event where its secret is a copy. */
  readonly facts?: Facts | undefined
  readonly source: string
  readonly now: Date
}

/** A secret that is right, with its row. */
export interface ProvenSecret {
  readonly result: 'proof'
  readonly secret: NodeSecretRow
}

/** What each state of a secret that is the node's own, and right, is refused for. */
const causes: Readonly<Partial<Record<SecretState, RefusalCause>>> = {
  expired: 'secret-expired',
  replaced: 'secret-replaced',
  revoked: 'secret-revoked',
  'rotated-out': 'secret-rotated-out',
}

/**
 * A secret proves its node while it is the current one, or one that the node was given to take its place. Throws the Refusal
 * that says what is wrong with one that does not. A claim stands in for a secret that the media does not carry, never beside one.
 */
export async function checkSecret(
  db: Queries,
  node: NodeRow,
  presented: PresentedSecret,
): Promise<EvidenceResult | ProvenSecret> {
  const { secret, claim } = presented
  if (secret !== undefined && secret !== '') return compareSecret(db, node, secret, presented)
  if (claim === undefined) return 'absent'
  return provesClaim(await findClaim(db, node.id), claim) ? 'proof' : 'absent'
}

async function compareSecret(
  db: Queries,
  node: NodeRow,
  secret: string,
  by: PresentedSecret,
): Promise<EvidenceResult | ProvenSecret> {
  const presented = parseToken(secret)
  if (presented === undefined) return 'wrong'
  const hash = hashSecret(presented.secret)
  const row = await findSecret(db, node.id, presented.id)
  if (row === undefined)
    return isCurrent(node, presented.id, hash) ? 'proof' : refuseForeign(db, node, presented.id, hash)
  if (!hashesEqual(hash, row.secret_hash as SecretHash)) return 'wrong'
  const state = secretState(row, node.secret_id, by.now)
  const cause = causes[state]
  if (cause === undefined) return { result: 'proof', secret: row }
  throw new Refusal(cause, {
    node: node.name,
    detail: { secret: row.id },
    ...(state === 'rotated-out' ? { alarm: await reused(db, node, row, by) } : {}),
  })
}

/** A replica of the release before knows the node's own columns only: what it issued has no row. */
function isCurrent(node: NodeRow, id: string, hash: SecretHash): boolean {
  return (
    node.secret_hash !== null && id === node.secret_id && hashesEqual(hash, node.secret_hash as SecretHash)
  )
}

async function refuseForeign(
  db: Queries,
  node: NodeRow,
  id: string,
  hash: SecretHash,
): Promise<EvidenceResult> {
  const other = await findAnySecret(db, id)
  if (other === undefined || !hashesEqual(hash, other.secret_hash as SecretHash)) return 'wrong'
  throw new Refusal('secret-foreign', { node: node.name, detail: { givenTo: other.nodeName } })
}

/** The node has a newer secret and has used it: this is a copy of its medium, or the medium was put back to what it was. */
async function reused(
  db: Queries,
  node: NodeRow,
  row: NodeSecretRow,
  { source, facts = {} }: PresentedSecret,
): Promise<{ kind: 'secret-reused-after-rotation'; detail: Record<string, unknown> }> {
  const current = node.secret_id === null ? undefined : await findSecret(db, node.id, node.secret_id)
  const before = node.last_facts === null ? {} : readFacts(node.last_facts)
  return {
    kind: 'secret-reused-after-rotation',
    detail: {
      secret: row.id,
      rotatedOutAt: row.ended_at,
      machines: [
        {
          address: current?.last_used_from ?? null,
          at: current?.last_used_at ?? null,
          facts: machineFacts(before),
        },
        { address: source, at: null, facts: machineFacts(facts) },
      ],
    },
  }
}
