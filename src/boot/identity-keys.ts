import type { IdentityClaims } from '../domain/identity.ts'
import type { SigningKeyRow } from '../storage/signing-key-tables.ts'
import type { BootContext } from './context.ts'
import { type KeyRing, type KeySet, keySet, openSigner, ringAlgorithm, ringKeys } from './key-ring.ts'

/** The keys that sign the identity documents of nodes, and nothing else. */
export const identityRing: KeyRing = {
  table: 'identity_keys',
  place: 'identity-key',
  made: 'identity-key-made',
  signs: 'node identities',
  replace: 'pawl identity rotate --compromised --yes',
}

/** All keys, the newest first; the first that asks makes the first one, which signs at once. */
export function identityKeys(context: BootContext): Promise<SigningKeyRow[]> {
  return ringKeys(identityRing, context)
}

/** What is published at `jwks_uri`. */
export function identityKeySet(context: BootContext): Promise<KeySet> {
  return keySet(identityRing, context)
}

/** Opens what signs documents now. Throws `key-unreadable` where another settings key has sealed the key. */
export async function openIdentitySigner(
  context: BootContext,
): Promise<(claims: IdentityClaims) => Promise<string>> {
  const { kid, key } = await openSigner(identityRing, context)
  const { SignJWT } = await import('jose') // not at the start: most fleets have no identities
  return (claims) =>
    new SignJWT({ ...claims }).setProtectedHeader({ alg: ringAlgorithm, kid, typ: 'JWT' }).sign(key)
}
