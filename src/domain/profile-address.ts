import type { Profile } from './profile.ts'

/**
 * Whether nodes of this profile are proved by their address alone, as far as stock iPXE can prove them: a certificate comes with
 * stage 2 only. Then an address that two nodes have lets neither boot.
 */
export function reliesOnAddress(profile: Profile): boolean {
  return (['boot', 'reinstall'] as const).some((name) => {
    const evidence = profile.evidence[name]
    return profile[name] !== undefined && evidence.includes('address') && !evidence.includes('secret')
  })
}
