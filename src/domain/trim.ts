import { PawlError } from '../errors.ts'

/**
 * Retention moves the beginning of a chain along, and so does someone who deletes with a hand in the database. What tells
 * them apart is a signature by the key of the checkpoints, over where each chain begins from here on, inside the event of
 * the trim. A signed beginning binds one chain to one number and one hash: it cannot be used again for another.
 */

/** Where a chain begins: the last event that was removed. */
export interface ChainBase {
  readonly chain: string
  readonly seq: number
  readonly hash: string
}

/** What is signed. */
export interface TrimStatement {
  /** The public URL of the installation, for people. */
  readonly issuer: string
  /** SHA-256 of its root certificate: which installation it is. */
  readonly authority: string
  /** ISO 8601 UTC, to the second. */
  readonly at: string
  /** Everything removed was older than this; ISO 8601 UTC. */
  readonly cutoff: string
  readonly bases: readonly ChainBase[]
}

/** The `typ` in the header: no checkpoint can be taken for a trim, and no trim for a checkpoint. */
export const trimType = 'pawl-trim+jws'

/** The claims of a statement, as they are signed. */
export function trimClaimsOf(statement: TrimStatement): Readonly<Record<string, unknown>> {
  const { issuer, authority, at, cutoff, bases } = statement
  const lines = bases.map(({ chain, seq, hash }) => [chain, seq, hash])
  return { iss: issuer, iat: Date.parse(at) / 1000, authority, cutoff, bases: lines }
}

/** What a reader needs of the claims of a statement whose signature was verified; throws `invalid`. */
export function parseTrimClaims(text: string): Pick<TrimStatement, 'authority' | 'bases'> {
  const { authority, bases } = JSON.parse(text) as Readonly<Record<string, unknown>> // signed by a key that is trusted
  if (typeof authority !== 'string' || !Array.isArray(bases)) throw notOne()
  return { authority, bases: bases.map((line: unknown) => baseOf(line)) }
}

function baseOf(line: unknown): ChainBase {
  const [chain, seq, hash] = Array.isArray(line) ? (line as unknown[]) : []
  if (typeof chain !== 'string' || typeof seq !== 'number' || typeof hash !== 'string') throw notOne()
  return { chain, seq, hash }
}

function notOne(): PawlError {
  return new PawlError('invalid', 'not a trim: its claims are not those of one')
}
