import type { NodeKey } from './node-key.ts'
import Type, { type Static } from './schema.ts'

/**
 * The identity that a node keeps after its boot: a short-lived JWT (RFC 7519) that others can check by the keys that we publish,
 * bound (RFC 7800 `cnf`, RFC 9449 `jkt`) to a key that the node made itself and proves to have (RFC 9449, DPoP).
 */

/** No document is good for longer, whatever a profile says: so long a key is published behind its last signature. */
export const maxIdentitySeconds = 86_400

/** A proof is good for so long, and this far ahead of our clock: machines without a clock that is kept set it by our `Date`. */
export const proofAgeSeconds = 120
export const proofAheadSeconds = 60

/** So many proofs of one key are taken while they could be repeated (3 minutes): one for each audience, and tries. */
export const maxProofs = 60

/** A used proof is known so long behind its end: to a replica whose clock is behind the one that forgets, it is not over yet. */
export const proofKeptSeconds = 60

/** An audience: a URL or a word, as the claim has it. Its file on the node has `_` for each `:`, `/` and `~`. */
const audience = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9:/._~-]{0,254}$' })

/** What a profile says of the identity of its nodes. */
export const profileIdentitySchema = Type.Object(
  {
    audiences: Type.Array(audience, { minItems: 1, maxItems: 16, uniqueItems: true }),
    /** Which labels of the node are in the document; left out: none. */
    labels: Type.Optional(
      Type.Array(Type.String({ pattern: '^[a-z0-9](?:[a-z0-9._/-]{0,61}[a-z0-9])?$' }), {
        maxItems: 16,
        uniqueItems: true,
      }),
    ),
    lifetimeSeconds: Type.Optional(Type.Integer({ minimum: 300, maximum: maxIdentitySeconds })),
  },
  { additionalProperties: false },
)

/** The same, as it is used. */
export type ProfileIdentity = Static<typeof profileIdentitySchema>

/** The file name of an audience's document on the node. */
export function audienceFile(name: string): string {
  return name.replace(/[:/~]/g, '_')
}

/** What a schema cannot say. */
export function identityFault({
  identity,
  tokens,
}: {
  readonly identity?: ProfileIdentity
  readonly tokens: string
}): { readonly at: string; readonly what: string } | undefined {
  if (identity === undefined) return undefined
  if (tokens === 'epoxy')
    return { at: 'identity', what: 'cannot be given with "tokens: epoxy": its clients make no key' }
  const files = new Map<string, string>()
  for (const name of identity.audiences) {
    const other = files.get(audienceFile(name))
    if (other !== undefined)
      return {
        at: 'identity.audiences',
        what: `has "${other}" and "${name}", which would be one file on the node`,
      }
    files.set(audienceFile(name), name)
  }
  return undefined
}

/** The claims of a document. */
export interface IdentityClaims {
  readonly iss: string
  /** `node:NAME` */
  readonly sub: string
  readonly aud: string
  readonly iat: number
  readonly exp: number
  readonly jti: string
  readonly node: string
  readonly session: string
  readonly sequence: string
  readonly profile: string
  /** `NAME@VERSION` of the system that runs, and its manifest's digest. */
  readonly image: string
  readonly image_digest: string
  /** How the machine proved that it is this node; `claim` where an operator's approval stood in for its secret. */
  readonly evidence: readonly string[]
  readonly labels: Readonly<Record<string, string>>
  readonly cnf: { readonly jkt: string }
}

/** What is wrong with a proof, in words for operators. */
export const proofFaults = {
  missing: 'there is no proof of possession: one DPoP header is needed',
  'too-long': 'it is longer than 2048 characters',
  malformed: 'it is no compact JWS with a JSON payload, or not spelled in base64url as it must be',
  'wrong-type': 'its type is not dpop+jwt, or it has critical headers',
  'wrong-algorithm': 'it is signed with something else than ES256 or EdDSA',
  'wrong-key': 'its key is not a good public key of P-256 or Ed25519 that fits the algorithm',
  'bad-signature': 'its signature is not by the key it names',
  'wrong-method': 'it is for another method',
  'wrong-url': 'it is for another URL',
  'no-number': 'it has no jti of 16 to 128 characters',
  'no-time': 'it does not say when it was made',
  'too-old': 'it was made more than 120 s ago',
  'in-the-future': 'it was made more than 60 s ahead of the clock of this server',
  'wrong-token': 'it was not made for the token that came with it',
} as const

/** One of them. */
export type ProofFault = keyof typeof proofFaults

/** A proof whose signature is that of its key. Whether that key is anybody's is the caller's question. */
export interface Proof {
  readonly jwk: NodeKey
  /** RFC 7638 with SHA-256. */
  readonly thumbprint: string
  readonly jti: string
  /** It is refused for its age from here on. */
  readonly endsAt: Date
}
