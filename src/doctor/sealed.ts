import { existsSync } from 'node:fs'
import { ifReadable, type SettingsSealer, settingsSealer } from '../boot/settings-sealer.ts'
import type { Profile } from '../domain/profile.ts'
import { extensionTarget } from '../fleet/extension-view.ts'
import { mapSecrets } from '../fleet/profile-secrets.ts'
import { isSecretReadable, urlOf } from '../fleet/webhook-view.ts'
import { settingsKey, settingsKeyFile } from '../pki/settings-key.ts'
import { listExtensions } from '../storage/extensions.ts'
import { listProfiles, readProfile } from '../storage/fleet.ts'
import { appliedMigrations } from '../storage/migrate.ts'
import { listWebhooks } from '../storage/webhooks.ts'
import { type Finding, fail, ok, type Subject } from './finding.ts'

const check = 'sealed settings'
const maxTold = 20

/** What is sealed in the database, and whether this server's key opens it: what it does not can only be given anew. */
export async function sealed({ storage, dataDir }: Subject): Promise<Finding[]> {
  if (storage === undefined) return []
  const applied = await appliedMigrations(storage.db as never)
  if (!applied.includes('0024-extensions')) return [] // the server makes its tables when it starts
  if (!existsSync(settingsKeyFile(dataDir))) return [] // the check of keys tells it
  const sealer = settingsSealer(settingsKey(dataDir))
  const profiles = (await listProfiles(storage.db)).map(readProfile)
  const things = [
    ...profiles.map((profile) => ({
      lost: unreadableOf(profile, sealer),
      what: `profile "${profile.name}"`,
      anew: 'apply it again with the values themselves: pawl profile apply',
    })),
    ...(await listWebhooks(storage.db)).map((row) => ({
      lost: [
        ...(ifReadable(() => urlOf({ sealer }, row)) === undefined ? ['url'] : []),
        ...(isSecretReadable({ sealer }, row) ? [] : ['secret']),
      ],
      what: `webhook "${row.name}"`,
      anew: `pawl webhook set ${row.name} --url - and pawl webhook rotate-secret ${row.name}`,
    })),
    ...(await listExtensions(storage.db)).map((row) => ({
      lost: ifReadable(() => extensionTarget({ sealer }, row)) === undefined ? ['url or clientKey'] : [],
      what: `extension "${row.operation}"`,
      anew: 'apply it again with the values themselves: pawl extension apply',
    })),
  ]
  const faulty = things.filter(({ lost }) => lost.length > 0)
  if (faulty.length === 0) return [ok(check, 'all of them open with pki/settings.key')]
  const more = faulty.length > maxTold ? `; so are ${faulty.length - maxTold} more` : ''
  return faulty
    .slice(0, maxTold)
    .map(({ lost, what, anew }, index, told) =>
      fail(
        check,
        `${what}: ${lost.join(', ')} was sealed with another key${index === told.length - 1 ? more : ''}`,
        `restore the pki/settings.key that the database came with, or ${anew}`,
      ),
    )
}

/** The fields of a profile that do not open. */
function unreadableOf(profile: Profile, sealer: SettingsSealer): string[] {
  const lost: string[] = []
  mapSecrets(profile, (value, { at, place }) => {
    if (ifReadable(() => sealer.open(value, place)) === undefined) lost.push(at)
    return value
  })
  return lost
}
