import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { calculateJwkThumbprint, exportJWK, SignJWT } from 'jose'
import { type IdentityClaims, identityAlgorithm } from '../domain/identity.ts'
import { PawlError } from '../errors.ts'
import { addFirstIdentityKey, listIdentityKeys } from '../storage/identity-keys.ts'
import type { IdentityKeyRow } from '../storage/node-identity-tables.ts'
import type { BootContext } from './context.ts'
import { inTransaction } from './work.ts'

/**
 * The keys that sign the identity documents of nodes, the same in every process and replica on one database: the private half is
 * sealed by the settings key, as secret settings are. Which of them signs follows the clock, so no process has to tell another: the
 * last whose time has come. The next one is published before its time comes, and the one before until all it signed has ended.
 */

/** The public halves that documents may be signed by now, as a JSON Web Key Set (RFC 7517 §5). */
export interface IdentityKeySet {
  readonly keys: readonly Readonly<Record<string, unknown>>[]
}

/** What a key set and a signature need. */
export type IdentityKeyContext = Pick<BootContext, 'storage' | 'sealer' | 'clock'>

/** A key that was just made. */
export type NewIdentityKey = Pick<IdentityKeyRow, 'kid' | 'jwk' | 'sealed'>

/** Makes a key; nothing knows it yet. */
export async function makeIdentityKey({ sealer }: Pick<BootContext, 'sealer'>): Promise<NewIdentityKey> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = await exportJWK(createPublicKey(privateKey))
  const kid = await calculateJwkThumbprint(jwk)
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string // a PEM is text
  return {
    kid,
    jwk: JSON.stringify({ ...jwk, kid, alg: identityAlgorithm, use: 'sig' }),
    sealed: sealer.seal(pem, placeOf(kid)),
  }
}

/** All keys; the first that asks makes the first one, which signs at once: nobody keeps a key set without it. */
export async function identityKeys(context: BootContext): Promise<IdentityKeyRow[]> {
  const known = await listIdentityKeys(context.storage.db)
  if (known.length > 0) return known
  const made = await makeIdentityKey(context)
  await inTransaction(context, async ({ tx, now, event }) => {
    const at = now.toISOString()
    const row = { ...made, generation: 1, made_at: at, signs_from: at, ends_at: null }
    if (!(await addFirstIdentityKey(tx, row))) return // another process was first
    const detail = { kid: made.kid, signsFrom: at, replaces: null }
    await event({
      kind: 'identity-key-made',
      node: null,
      session: null,
      actor: 'server',
      source: null,
      detail,
    })
  })
  return listIdentityKeys(context.storage.db)
}

/** The key that signs at a time. */
export function signingKey(keys: readonly IdentityKeyRow[], now: Date): IdentityKeyRow | undefined {
  const at = now.toISOString()
  return keys.findLast(({ signs_from }) => signs_from <= at) ?? keys[0]
}

/** Those that documents may be signed by, the next one included. */
export function publishedKeys(keys: readonly IdentityKeyRow[], now: Date): IdentityKeyRow[] {
  const at = now.toISOString()
  return keys.filter(({ ends_at }) => ends_at === null || ends_at > at)
}

/** What is published at `jwks_uri`. */
export async function identityKeySet(context: BootContext): Promise<IdentityKeySet> {
  const keys = publishedKeys(await identityKeys(context), context.clock())
  return { keys: keys.map(({ jwk }) => JSON.parse(jwk) as Record<string, unknown>) } // written by us
}

/** Opens what signs documents now. Throws `key-unreadable` where another settings key has sealed the key. */
export async function openIdentitySigner(
  context: BootContext,
): Promise<(claims: IdentityClaims) => Promise<string>> {
  const key = signingKey(await identityKeys(context), context.clock())
  if (key === undefined) throw new PawlError('key-unreadable', 'there is no key to sign identities with')
  const opened = openIdentityKey(context, key)
  return (claims) =>
    new SignJWT({ ...claims })
      .setProtectedHeader({ alg: identityAlgorithm, kid: key.kid, typ: 'JWT' })
      .sign(opened)
}

/** The private half. Throws `key-unreadable`. */
export function openIdentityKey(
  { sealer }: Pick<BootContext, 'sealer'>,
  { kid, sealed }: IdentityKeyRow,
): KeyObject {
  try {
    return createPrivateKey(sealer.open(sealed, placeOf(kid)))
  } catch (cause) {
    throw new PawlError('key-unreadable', `the key ${kid} of node identities cannot be opened`, {
      hint: 'restore pki/settings.key from the backup that the database came from; or withdraw the key: pawl identity rotate --compromised',
      cause,
    })
  }
}

function placeOf(kid: string): string {
  return `identity-key/${kid}`
}
