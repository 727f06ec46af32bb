import { X509Certificate } from 'node:crypto'
import { ifReadable, settingsSealer } from '../boot/settings-sealer.ts'
import { addSeconds } from '../domain/clock.ts'
import { type Probe, probeService } from '../extensions/probe.ts'
import { extensionTarget } from '../fleet/extension-view.ts'
import { settingsKey } from '../pki/settings-key.ts'
import type { ExtensionRow } from '../storage/extension-tables.ts'
import { listExtensions } from '../storage/extensions.ts'
import { listProfiles, readProfile } from '../storage/fleet.ts'
import { appliedMigrations } from '../storage/migrate.ts'
import type { ProfileRow } from '../storage/tables.ts'
import { days, type Finding, fail, ok, type Subject, warn } from './finding.ts'

const check = 'extensions'
const probeMilliseconds = 3000
const soonSeconds = 14 * 86_400

/** The services that booting nodes may ask: each is looked up, and hands are shaken; nothing is asked of it. */
export async function extensions({ storage, config, dataDir, now }: Subject): Promise<Finding[]> {
  if (storage === undefined) return []
  const applied = await appliedMigrations(storage.db as never)
  if (!applied.includes('0024-extensions')) return [] // the server makes its tables when it starts
  const rows = await listExtensions(storage.db)
  const rules = { allowed: config.extensionAllowedNetworks, setting: 'extensionAllowedNetworks' }
  if (rows.length === 0) return missing(await listProfiles(storage.db), [])
  const sealer = settingsSealer(settingsKey(dataDir))
  const found = rows.map(async (row) => {
    const target = ifReadable(() => extensionTarget({ sealer }, row))
    if (target === undefined) return expiring(row, now) // the check of sealed settings tells it
    return [...judged(row, await probeService(target, rules, probeMilliseconds), now), ...expiring(row, now)]
  })
  return [...(await Promise.all(found)).flat(), ...missing(await listProfiles(storage.db), rows)]
}

/** Operations that profiles allow and that lead nowhere. */
function missing(profiles: readonly ProfileRow[], rows: readonly ExtensionRow[]): Finding[] {
  const known = new Set(rows.map(({ operation }) => operation))
  return profiles.flatMap((profile) =>
    (readProfile(profile).extensions ?? [])
      .filter((operation) => !known.has(operation))
      .map((operation) =>
        warn(
          check,
          `profile "${profile.name}" allows ${operation}, which is not set`,
          'pawl extension apply -f FILE',
        ),
      ),
  )
}

function judged({ operation }: ExtensionRow, probe: Probe, now: Date): Finding[] {
  if (probe.kind === 'failed')
    return [
      fail(
        check,
        `${operation}: ${probe.reason}`,
        'its nodes are told 502 and ask again: look at the service',
      ),
    ]
  const { address, certificateUntil: until } = probe
  if (until === undefined) return [ok(check, `${operation}: ${address} takes connections, in clear`)]
  const left = until.getTime() - now.getTime()
  if (until > addSeconds(now, soonSeconds))
    return [ok(check, `${operation}: ${address} is the service that it should be`)]
  return [warn(check, `${operation}: the certificate of the service ends in ${days(left)}`, 'renew it there')]
}

/** What we show the service runs out, too. */
function expiring({ operation, client_certificate: pem }: ExtensionRow, now: Date): Finding[] {
  if (pem === null) return []
  const left = new X509Certificate(pem).validToDate.getTime() - now.getTime()
  if (left > soonSeconds * 1000) return []
  const ends = left <= 0 ? 'has ended' : `ends in ${days(left)}`
  return [fail(check, `${operation}: our client certificate ${ends}`, 'apply the extension with another one')]
}
