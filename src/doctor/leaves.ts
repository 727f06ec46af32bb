import { settingsSealer } from '../boot/settings-sealer.ts'
import { isPawlError } from '../errors.ts'
import { leaveFaults, openHooks } from '../fleet/leave-settings.ts'
import { checkLeaveCluster } from '../leaving/check.ts'
import { settingsKey } from '../pki/settings-key.ts'
import { listProfiles, readProfile } from '../storage/fleet.ts'
import { type Finding, fail, failure, type Subject } from './finding.ts'
import { askedInTurn, clusterMilliseconds } from './joins.ts'

/** The clusters that nodes leave to be reinstalled: asked by the kubeconfig of each profile, whether they would let them. */
export async function leaves({ dataDir, config, now, storage }: Subject): Promise<Finding[]> {
  if (storage === undefined) return []
  const asking = (await listProfiles(storage.db))
    .map(readProfile)
    .filter(({ leave }) => leave?.kind === 'kubernetes')
  if (asking.length === 0) return []
  const sealer = settingsSealer(settingsKey(dataDir))
  return askedInTurn(asking, async (profile) => {
    const check = `leave of ${profile.name}`
    try {
      const { leave } = openHooks(profile, sealer)
      if (leave?.kind !== 'kubernetes') return []
      const faults = leaveFaults({ leave }, now)
      if (faults.length > 0) return [fail(check, faults.join('; '), 'mend it and apply the profile again')]
      const findings = await checkLeaveCluster(leave, {
        now,
        timeoutMilliseconds: clusterMilliseconds(config),
      })
      return findings.map((finding) => ({ check, ...finding }))
    } catch (error) {
      if (isPawlError(error)) return [failure(check, error)]
      throw error
    }
  })
}
