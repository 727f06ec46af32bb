import { randomUUID } from 'node:crypto'
import { type CryptoKey, calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import { tokenHash } from '../../src/boot/read-proof.ts'

/** A key that a node made, and the proofs that it has it. */
export interface TestKey {
  readonly jwk: JWK
  readonly thumbprint: string
  readonly privateKey: CryptoKey
  readonly alg: string
}

/** Makes one. */
export async function nodeKey(alg: 'ES256' | 'EdDSA' = 'ES256'): Promise<TestKey> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
  const jwk = await exportJWK(publicKey)
  return { jwk, thumbprint: await calculateJwkThumbprint(jwk), privateKey, alg }
}

/** What a proof says, and how; all of it may be wrong. */
export interface ProofWish {
  readonly url: string
  readonly at: Date
  readonly token?: string
  readonly header?: Readonly<Record<string, unknown>>
  readonly claims?: Readonly<Record<string, unknown>>
}

/** Makes a proof of possession as RFC 9449 has it. */
export function proofOf(key: TestKey, { url, at, token, header, claims }: ProofWish): Promise<string> {
  const ath = token === undefined ? {} : { ath: tokenHash(token) }
  const payload = { htm: 'POST', htu: url, iat: Math.floor(at.getTime() / 1000), jti: randomUUID(), ...ath }
  return new SignJWT({ ...payload, ...claims })
    .setProtectedHeader({ typ: 'dpop+jwt', alg: key.alg, jwk: key.jwk, ...header })
    .sign(key.privateKey)
}
