import { identityRing } from '../boot/identity-keys.ts'
import { openKey, signingKey } from '../boot/key-ring.ts'
import { settingsSealer } from '../boot/settings-sealer.ts'
import { isPawlError } from '../errors.ts'
import { settingsKey } from '../pki/settings-key.ts'
import { allProfiles } from '../storage/fleet.ts'
import { listSigningKeys } from '../storage/signing-keys.ts'
import { days, type Finding, failure, ok, type Subject, warn } from './finding.ts'

const check = 'identity'
const lateMilliseconds = 86_400_000

/** The keys of identity documents: whether the one that signs can be opened here, and whether they change in time. */
export async function identity({ storage, dataDir, config, now }: Subject): Promise<Finding[]> {
  if (storage === undefined) return []
  const profiles = (await allProfiles(storage.db)).filter((profile) => profile.identity !== undefined)
  const keys = await listSigningKeys(storage.db, identityRing.table)
  const signs = signingKey(keys, now)
  if (signs === undefined)
    return profiles.length === 0
      ? [ok(check, 'no profile gives its nodes an identity')]
      : [
          warn(
            check,
            'there is no key to sign with yet',
            'a running server makes the first one within a minute: start it, or wait',
          ),
        ]
  try {
    openKey(identityRing, { sealer: settingsSealer(settingsKey(dataDir)) }, signs)
  } catch (error) {
    if (!isPawlError(error, 'key-unreadable')) throw error
    return [failure(check, error)]
  }
  const age = now.getTime() - Date.parse(keys[0]?.signs_from ?? signs.signs_from)
  const overdue = age - config.identityKeyDays * 86_400_000
  if (overdue > lateMilliseconds)
    return [
      warn(
        check,
        `the key has signed for ${days(age)}, and should change every ${config.identityKeyDays}`,
        'is the server running? It makes the next key by itself; pawl identity rotate makes one now',
      ),
    ]
  const issuer = config.identityIssuer ?? config.publicUrl
  if (issuer === undefined && profiles.length > 0)
    return [
      warn(
        check,
        'the issuer is made of the host name and a port: it changes with them, and nobody then knows it',
        'set publicUrl, or identityIssuer',
      ),
    ]
  const many = `${profiles.length} profile${profiles.length === 1 ? '' : 's'}`
  return [ok(check, `${issuer ?? 'the public URL'} signs for ${many} by key ${signs.kid}`)]
}
