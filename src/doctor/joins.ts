import { settingsSealer } from '../boot/settings-sealer.ts'
import { credentialOf } from '../domain/join.ts'
import type { Profile } from '../domain/profile.ts'
import { isPawlError } from '../errors.ts'
import { joinOf, mapSecrets } from '../fleet/profile-secrets.ts'
import { openBrokers } from '../joining/brokers.ts'
import { settingsKey } from '../pki/settings-key.ts'
import { listProfiles, readProfile } from '../storage/fleet.ts'
import { type Finding, fail, failure, type Subject } from './finding.ts'

/** So many clusters are asked at a time. */
const atOnce = 8

/** The clusters that make a credential for each boot: asked by the kubeconfig of each profile, whether they would. */
export async function joins({ dataDir, config, now, storage }: Subject): Promise<Finding[]> {
  if (storage === undefined) return []
  const profiles = (await listProfiles(storage.db)).map(readProfile)
  const asking = profiles.flatMap((profile) =>
    (['boot', 'reinstall'] as const)
      .filter((sequence) => isBrokered(profile, sequence))
      .map((sequence) => ({ profile, sequence })),
  )
  if (asking.length === 0) return []
  const sealer = settingsSealer(settingsKey(dataDir))
  const broker = openBrokers({ clock: () => now, timeoutMilliseconds: clusterMilliseconds(config) })

  async function ask({ profile, sequence }: (typeof asking)[number]): Promise<Finding[]> {
    const check = `join of ${profile.name}, ${sequence}`
    try {
      const open = mapSecrets(profile, (value, { place }) => sealer.open(value, place))
      const join = joinOf(open, sequence)
      const found = join === undefined ? undefined : broker(join.kind)
      if (join === undefined || found === undefined) return []
      const settings = join.settings ?? {}
      const faults = found.faults(settings, now).map(({ at, message }) => `${at} ${message}`)
      if (faults.length > 0) return [fail(check, faults.join('; '), 'mend it and apply the profile again')]
      return (await found.check(settings, now)).map((finding) => ({ check, ...finding }))
    } catch (error) {
      if (isPawlError(error)) return [failure(check, error)]
      throw error
    }
  }

  return askedInTurn(asking, ask)
}

/** How long a cluster may take: a check has ten seconds, and an API that hangs is told of before they are over. */
export function clusterMilliseconds({
  clusterTimeoutSeconds,
}: Pick<Subject['config'], 'clusterTimeoutSeconds'>): number {
  return Math.min(4000, clusterTimeoutSeconds * 1000)
}

/** Asks about each, a few at a time. */
export async function askedInTurn<One>(
  all: readonly One[],
  ask: (one: One) => Promise<Finding[]>,
): Promise<Finding[]> {
  const findings: Finding[] = []
  for (let at = 0; at < all.length; at += atOnce)
    findings.push(...(await Promise.all(all.slice(at, at + atOnce).map(ask))).flat())
  return findings
}

function isBrokered(profile: Profile, sequence: 'boot' | 'reinstall'): boolean {
  const join = joinOf(profile, sequence)
  return join !== undefined && credentialOf(join) === 'brokered'
}
