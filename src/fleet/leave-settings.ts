import { secretPlace } from '../boot/join-script.ts'
import type { SettingsSealer } from '../boot/settings-sealer.ts'
import { joinWithKubeconfig, kubeconfigOfJoin, type LeaveHooks, mapHookSecrets } from '../domain/leave.ts'
import type { Profile } from '../domain/profile.ts'
import { isPawlError, PawlError } from '../errors.ts'
import { endedInWords, readKubeconfig } from '../kubernetes/kubeconfig.ts'
import { joinOf } from './profile-secrets.ts'

/** What is wrong with the kubeconfig of a profile's leave hook, its secrets open: one that cannot work, or no longer. */
export function leaveFaults({ leave }: Pick<Profile, 'leave'>, now: Date): string[] {
  if (leave?.kind !== 'kubernetes' || leave.kubeconfig === kubeconfigOfJoin) return []
  try {
    const over = endedInWords(readKubeconfig(leave.kubeconfig), now)
    return over === undefined ? [] : [`leave.kubeconfig: ${over}`]
  } catch (error) {
    if (!isPawlError(error, 'invalid')) throw error
    return [`leave.${error.message}`]
  }
}

/** The hooks of a stored profile with their secrets open, and the join's kubeconfig in the place where it is meant. */
export function openHooks(profile: Profile, sealer: SettingsSealer): LeaveHooks {
  const open = mapHookSecrets(profile, (sealed, hook, name) =>
    sealer.open(sealed, secretPlace(profile.name, hook, name)),
  )
  const { leave } = open
  if (leave?.kind !== 'kubernetes' || leave.kubeconfig !== kubeconfigOfJoin) return open
  const sequence = joinWithKubeconfig(profile)
  const settings =
    sequence && (joinOf(profile, sequence)?.settings as Readonly<Record<string, unknown>> | undefined)
  const sealed = settings?.kubeconfig
  if (sequence === undefined || typeof sealed !== 'string')
    throw new PawlError('conflict', `profile "${profile.name}": no join of it has a kubeconfig any more`)
  return {
    ...open,
    leave: { ...leave, kubeconfig: sealer.open(sealed, secretPlace(profile.name, sequence, 'kubeconfig')) },
  }
}

/** Hooks as the row of a leaving node keeps them, and back. */
export function sealLeaving(hooks: LeaveHooks, id: string, sealer: SettingsSealer): string {
  return JSON.stringify(mapHookSecrets(hooks, (value, hook) => sealer.seal(value, leavingPlace(id, hook))))
}

/** Throws `key-unreadable` where this server has another key. */
export function openLeaving(hooks: string, id: string, sealer: SettingsSealer): LeaveHooks {
  const sealed = JSON.parse(hooks) as LeaveHooks // our own column, written above
  return mapHookSecrets(sealed, (value, hook) => sealer.open(value, leavingPlace(id, hook)))
}

function leavingPlace(id: string, hook: string): string {
  return `leaving/${id}/${hook}`
}
