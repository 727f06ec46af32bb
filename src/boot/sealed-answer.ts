import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'
import type { IdempotencyKey } from '../domain/token.ts'

/**
 * A redemption's answer, kept so that losing it on the way costs no power cycle. It is sealed under a key that only
 * the node has (HKDF of the token's secret and the Idempotency-Key), so the database alone opens nothing.
 */
export function sealAnswer(answer: string, secret: string, key: IdempotencyKey): string {
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

function derive(secret: string, key: IdempotencyKey): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', secret, key, 'pawl answer v1', 32))
}
