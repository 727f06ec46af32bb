import { createHash } from 'node:crypto'
import type { JWK } from 'jose'
import { type Proof, type ProofFault, proofAgeSeconds, proofAheadSeconds } from '../domain/identity.ts'
import { type NodeKey, parseNodeKey } from '../domain/node-key.ts'

const maxProofChars = 2048

/** What a proof must be made for. */
export interface ProofWanted {
  readonly now: Date
  /** Each URL that leads to what is asked for. */
  readonly urls: readonly string[]
  /** The token that came with it; left out where none does. */
  readonly token?: string | undefined
}

/** Which kind of key each algorithm takes: what a header says chooses neither alone. */
const keyTypes: Readonly<Record<string, NodeKey['kty']>> = { ES256: 'EC', EdDSA: 'OKP', Ed25519: 'OKP' }

/** Reads a proof of possession (RFC 9449 §4.3) and checks all of it that needs no database. Returns what is wrong with it, or it. */
export async function readProof(text: string | undefined, wanted: ProofWanted): Promise<Proof | ProofFault> {
  if (text === undefined || text === '') return 'missing'
  if (text.length > maxProofChars) return 'too-long'
  if (!text.split('.').every(isCanonical)) return 'malformed'
  const jose = await import('jose') // not at the start: most fleets have no identities
  const header = headerOf(jose, text)
  if (header === undefined) return 'malformed'
  if (header.typ !== 'dpop+jwt' || header.crit !== undefined || header.b64 !== undefined) return 'wrong-type'
  const { alg } = header
  if (typeof alg !== 'string' || !Object.hasOwn(keyTypes, alg)) return 'wrong-algorithm'
  const jwk = parseNodeKey(header.jwk)
  if (jwk === undefined || jwk.kty !== keyTypes[alg]) return 'wrong-key'
  const payload = await verified(jose, text, alg, jwk)
  if (typeof payload === 'string') return payload
  const fault = faultOfClaims(payload, wanted)
  if (fault !== undefined) return fault
  return {
    jwk,
    thumbprint: await jose.calculateJwkThumbprint(jwk as JWK, 'sha256'),
    jti: payload.jti as string, // looked at just now, as is the time
    endsAt: new Date(((payload.iat as number) + proofAgeSeconds + 1) * 1000),
  }
}

/** Whether this is the one way to write its bytes in base64url (RFC 4648 §3.5): decoders take others too, and then one proof is many texts. */
function isCanonical(text: string): boolean {
  return Buffer.from(text, 'base64url').toString('base64url') === text
}

type Jose = typeof import('jose')

function headerOf({ decodeProtectedHeader }: Jose, text: string): Record<string, unknown> | undefined {
  try {
    return decodeProtectedHeader(text) as Record<string, unknown>
  } catch {
    return undefined
  }
}

async function verified(
  { importJWK, compactVerify }: Jose,
  text: string,
  alg: string,
  jwk: NodeKey,
): Promise<Record<string, unknown> | 'wrong-key' | 'bad-signature' | 'malformed'> {
  const key = await importJWK(jwk as JWK, alg).catch(() => undefined) // a point that is on no curve
  if (key === undefined) return 'wrong-key'
  const bytes = await compactVerify(text, key, { algorithms: [alg] }).then(
    ({ payload }) => payload,
    () => undefined,
  )
  if (bytes === undefined) return 'bad-signature'
  try {
    const payload: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    return typeof payload === 'object' && payload !== null && !Array.isArray(payload)
      ? (payload as Record<string, unknown>)
      : 'malformed'
  } catch {
    return 'malformed'
  }
}

function faultOfClaims(claims: Record<string, unknown>, wanted: ProofWanted): ProofFault | undefined {
  const { htm, htu, iat, jti, ath } = claims
  if (htm !== 'POST') return 'wrong-method'
  if (typeof htu !== 'string' || !wanted.urls.some((url) => isSameUrl(url, htu))) return 'wrong-url'
  if (typeof jti !== 'string' || !/^[!-~]{16,128}$/.test(jti)) return 'no-number'
  if (typeof iat !== 'number' || !Number.isInteger(iat)) return 'no-time'
  const age = Math.floor(wanted.now.getTime() / 1000) - iat
  if (age > proofAgeSeconds) return 'too-old'
  if (age < -proofAheadSeconds) return 'in-the-future'
  return wanted.token !== undefined && ath !== tokenHash(wanted.token) ? 'wrong-token' : undefined
}

/** `ath` of RFC 9449 §4.2. */
export function tokenHash(token: string): string {
  return createHash('sha256').update(token, 'ascii').digest('base64url')
}

/** Without query and fragment, which a proof leaves out, and with hosts and default ports written one way (RFC 9449 §4.3). */
function isSameUrl(url: string, told: string): boolean {
  if (!URL.canParse(told)) return false
  const { origin, pathname, username, password } = new URL(told)
  const own = new URL(url)
  return username === '' && password === '' && origin === own.origin && pathname === own.pathname
}
