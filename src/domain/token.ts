import { hash, timingSafeEqual } from 'node:crypto'
import type { Branded } from './brand.ts'

/** The name of a token: 12 base64url characters, not secret. */
export type TokenId = Branded<string, 'TokenId'>
/** SHA-256 of a token's secret, lower-case hex. All that is stored of it. */
export type SecretHash = Branded<string, 'SecretHash'>

/**
 * What a token opens. `handover`, `stage2`, `stage3` and `join` open one thing once; `report` takes many errors and one
 * success; the two downloads are capabilities: good for any number of requests while their stage lasts; `extension` asks the
 * profile's extensions, as often as a boot may.
 */
export const tokenKinds = [
  'handover',
  'stage2',
  'stage3',
  'join',
  'report',
  'download-stage2',
  'download-stage3',
  'extension',
] as const
export type TokenKind = (typeof tokenKinds)[number]

/** A token as its holder presents it. */
export interface PresentedToken {
  readonly id: TokenId
  readonly secret: string
}

/** A token just made: `text` goes to the node, `hash` to the database. */
export interface MintedToken {
  readonly id: TokenId
  readonly text: string
  readonly hash: SecretHash
}

const idLength = 12
/** How long a token or secret is, in characters. */
export const textLength = 44

/** Makes a token from 33 bytes: 9 name it, and 24 random ones (192 bits) are its secret. */
export function tokenFromRandom(bytes: Uint8Array): MintedToken {
  if (bytes.length !== 33) throw new RangeError(`a token needs 33 bytes, not ${bytes.length}`)
  const text = Buffer.from(bytes).toString('base64url')
  return { id: text.slice(0, idLength) as TokenId, text, hash: hashSecret(text.slice(idLength)) }
}

/** Reads a token; undefined where it is not 44 base64url characters. */
export function parseToken(text: string): PresentedToken | undefined {
  if (text.length !== textLength || !/^[A-Za-z0-9_-]+$/.test(text)) return undefined
  return { id: text.slice(0, idLength) as TokenId, secret: text.slice(idLength) }
}

/** SHA-256 of a secret. No stretching: our secrets have 192 random bits. */
export function hashSecret(secret: string): SecretHash {
  return hash('sha256', secret, 'hex') as SecretHash
}

/** Compares in constant time. */
export function hashesEqual(a: SecretHash, b: SecretHash): boolean {
  const left = Buffer.from(a, 'hex')
  const right = Buffer.from(b, 'hex')
  return left.length === right.length && timingSafeEqual(left, right)
}

/** A key that makes a redemption repeatable: 22–64 base64url characters, so at least 128 bits. */
export type IdempotencyKey = Branded<string, 'IdempotencyKey'>

/** Reads an `Idempotency-Key` header; undefined where it is not of that form. */
export function parseIdempotencyKey(text: string): IdempotencyKey | undefined {
  return /^[A-Za-z0-9_-]{22,64}$/.test(text) ? (text as IdempotencyKey) : undefined
}
