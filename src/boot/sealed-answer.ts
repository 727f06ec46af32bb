import { createCipheriv, createDecipheriv, createSecretKey, hash, type KeyObject } from 'node:crypto'
import type { IdempotencyKey } from '../domain/token.ts'

/**
 * A redemption's answer, kept so that losing it on the way costs no power cycle. It is sealed under a key that only
 * the node has (HKDF of the token's secret and the Idempotency-Key), so the database alone opens nothing.
 */
export function sealAnswer(
  answer: string,
  secret: string,
  key: IdempotencyKey,
  randomBytes: (size: number) => Uint8Array,
): string {
  const nonce = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', derive(secret, key), nonce)
  const body = Buffer.concat([cipher.update(answer, 'utf8'), cipher.final()])
  return Buffer.concat([nonce, cipher.getAuthTag(), body]).toString('base64url')
}

/** Opens a sealed answer; undefined where the secret or the key is another. */
export function openAnswer(sealed: string, secret: string, key: IdempotencyKey): string | undefined {
  const bytes = Buffer.from(sealed, 'base64url')
  try {
    const decipher = createDecipheriv('aes-256-gcm', derive(secret, key), bytes.subarray(0, 12))
    decipher.setAuthTag(bytes.subarray(12, 28))
    return Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]).toString('utf8')
  } catch {
    return undefined
  }
}

/**
 * HKDF-SHA-256 (RFC 5869) with the Idempotency-Key as salt, for one block of output. By four one-shot hashes: `hkdfSync` and
 * `createHmac` cost several times what is computed with them.
 */
function derive(secret: string, key: IdempotencyKey): KeyObject {
  const extracted = hmac(Buffer.from(key), Buffer.from(secret))
  // As a key object: of bytes Node finds out by an exception that they are none, which costs more than all the rest of a seal.
  return createSecretKey(hmac(extracted, info))
}

const info = Buffer.from('pawl answer v1\u0001')
const blockBytes = 64

/** HMAC-SHA-256 (RFC 2104) under a key of one block at most, as an Idempotency-Key (64 characters) and a hash are. */
function hmac(key: Buffer, message: Buffer): Buffer {
  const inner = Buffer.alloc(blockBytes + message.length, 0x36)
  const outer = Buffer.alloc(blockBytes + 32, 0x5c)
  for (const [at, byte] of key.entries()) {
    inner[at] = byte ^ 0x36
    outer[at] = byte ^ 0x5c
  }
  message.copy(inner, blockBytes)
  hash('sha256', inner, 'buffer').copy(outer, blockBytes)
  return hash('sha256', outer, 'buffer')
}
