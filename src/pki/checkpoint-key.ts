import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto'
import { join } from 'node:path'
import {
  type CheckpointStatement,
  checkpointAlgorithm,
  checkpointType,
  claimsOf,
} from '../domain/checkpoint.ts'
import { type TrimStatement, trimClaimsOf, trimType } from '../domain/trim.ts'
import { PawlError } from '../errors.ts'
import { findSecretFile, readSecretFile, writeFileDurably, writeSecretFile } from './key-file.ts'

/** The public half of a key that signs checkpoints. */
export interface CheckpointKey {
  /** Its RFC 7638 thumbprint: the name cannot be given to another key. */
  readonly kid: string
  /** JSON Web Key, with `kid`, `alg` and `use`. */
  readonly jwk: Readonly<Record<string, unknown>>
}

/** Signs checkpoints, and what retention removes, with the key in the data folder. */
export interface CheckpointSigner {
  /** The key that signs now. */
  key(): Promise<CheckpointKey>
  /** Signs; returns a compact JWS. */
  sign(statement: CheckpointStatement): Promise<string>
  /** Signs where chains begin after a trim; returns a compact JWS. */
  signTrim(statement: TrimStatement): Promise<string>
  /** Makes another key; `use` puts it in the place of the one there is, which is gone then: its public half still verifies. */
  next(): Promise<CheckpointKey & { use(): void }>
}

/** Where the key is. */
export function checkpointKeyFile(dataDir: string): string {
  return join(dataDir, 'pki', 'checkpoint.key')
}

/** Makes the key unless it is there; returns whether it made it. */
export function createCheckpointKey(dataDir: string): boolean {
  const file = checkpointKeyFile(dataDir)
  return findSecretFile(file) === undefined && writeSecretFile(file, newKey())
}

/** Opens the signer, and makes its key where there is none yet. Throws `key-unreadable`. */
export function openCheckpointSigner(dataDir: string): CheckpointSigner {
  const file = checkpointKeyFile(dataDir)
  writeSecretFile(file, newKey()) // stays as it is where it is there
  // Read each time: another server on this folder may have replaced it.
  const pem = (): string => readSecretFile(file)
  const key = (): Promise<CheckpointKey> => publicHalf(pem(), file)
  async function signClaims(typ: string, claims: Readonly<Record<string, unknown>>): Promise<string> {
    const text = pem()
    const { kid } = await publicHalf(text, file)
    const { CompactSign, importPKCS8 } = await jose()
    return new CompactSign(new TextEncoder().encode(JSON.stringify(claims)))
      .setProtectedHeader({ alg: checkpointAlgorithm, kid, typ })
      .sign(await importPKCS8(text, checkpointAlgorithm))
  }
  return {
    key,
    sign: (statement) => signClaims(checkpointType, claimsOf(statement)),
    signTrim: (statement) => signClaims(trimType, trimClaimsOf(statement)),
    async next() {
      const text = newKey()
      return { ...(await publicHalf(text, file)), use: () => writeFileDurably(file, text, 0o600) }
    },
  }
}

/** Not at the start: what signs and makes keys is loaded when one is asked for. */
function jose(): Promise<typeof import('jose')> {
  return import('jose')
}

function newKey(): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return privateKey.export({ type: 'pkcs8', format: 'pem' }) as string // a PEM is text
}

async function publicHalf(pem: string, file: string): Promise<CheckpointKey> {
  const { calculateJwkThumbprint, exportJWK } = await jose()
  try {
    const jwk = await exportJWK(createPublicKey(createPrivateKey(pem)))
    if (jwk.crv !== 'P-256') throw new TypeError('of another curve')
    const kid = await calculateJwkThumbprint(jwk)
    return { kid, jwk: { ...jwk, kid, alg: checkpointAlgorithm, use: 'sig' } }
  } catch (cause) {
    throw new PawlError('key-unreadable', `${file} does not hold a key of the curve P-256`, {
      hint: 'restore it from a backup, or move it away: the server then makes a new one',
      cause,
    })
  }
}
