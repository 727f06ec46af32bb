import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { isPawlError, PawlError } from '../errors.ts'

/** Encrypts secret settings for the database. `place` binds a sealed value to the setting it was made for. */
export interface SettingsSealer {
  seal(value: string, place: string): string
  open(sealed: string, place: string): string
}

const prefix = 'sealed:'

/** AES-256-GCM under a key of 32 bytes, with a random 96-bit nonce for each value (NIST SP 800-38D §8.2.2). */
export function settingsSealer(key: Uint8Array): SettingsSealer {
  return {
    seal(value, place) {
      const nonce = randomBytes(12)
      const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(place))
      const body = Buffer.concat([cipher.update(value, 'utf8'), cipher.final()])
      return prefix + Buffer.concat([nonce, cipher.getAuthTag(), body]).toString('base64url')
    },
    open(sealed, place) {
      try {
        const bytes = Buffer.from(sealed.slice(prefix.length), 'base64url')
        const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, 12)).setAAD(
          Buffer.from(place),
        )
        decipher.setAuthTag(bytes.subarray(12, 28))
        return Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]).toString('utf8')
      } catch (cause) {
        throw new PawlError(
          'key-unreadable',
          `secret setting ${place} cannot be opened with this server's key`,
          {
            hint: 'restore pki/settings.key from the backup that the database came from, or give its value anew',
            cause,
          },
        )
      }
    },
  }
}

/** What `open` opens; undefined where this server's key does not: what is sealed there can be replaced, and not kept. */
export function ifReadable<T>(open: () => T): T | undefined {
  try {
    return open()
  } catch (error) {
    if (isPawlError(error, 'key-unreadable')) return undefined
    throw error
  }
}
