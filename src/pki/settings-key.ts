import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { PawlError } from '../errors.ts'
import { readSecretFile, writeSecretFile } from './key-file.ts'

/** Where the key is that seals secret settings of profiles. */
export function settingsKeyFile(dataDir: string): string {
  return join(dataDir, 'pki', 'settings.key')
}

/**
 * The 32 bytes that seal secret settings of profiles in the database; throws `key-unreadable`. Only `pawl init` makes
 * them: a new key made here would look like success, and no sealed setting would ever open again.
 */
export function settingsKey(dataDir: string): Uint8Array {
  const file = settingsKeyFile(dataDir)
  const hint = 'restore it from the backup that the database came from; in a new data folder, run pawl init'
  const text = readSecretFile(file, hint).trim()
  if (!/^[0-9a-f]{64}$/.test(text)) {
    throw new PawlError('key-unreadable', `${file} does not hold 64 hex digits`, { hint })
  }
  return new Uint8Array(Buffer.from(text, 'hex'))
}

/** Makes the key unless it is there; returns whether it made it. */
export function createSettingsKey(dataDir: string): boolean {
  const file = settingsKeyFile(dataDir)
  return !existsSync(file) && writeSecretFile(file, `${randomBytes(32).toString('hex')}\n`)
}
