import { secretPlace } from '../boot/join-script.ts'
import type { SettingsSealer } from '../boot/settings-sealer.ts'
import { kubeconfigOfJoin } from '../domain/leave.ts'
import type { Profile } from '../domain/profile.ts'
import { PawlError } from '../errors.ts'

type Document = Readonly<Record<string, unknown>>

/**
 * The hooks of a profile's document as it was sent, with each `masked` that stands for a secret setting replaced by the stored one. Throws
 * `invalid` where nothing is stored there.
 */
export function hooksWithStoredSecrets(
  document: Document,
  stored: Profile | undefined,
  sealer: SettingsSealer,
  masked: string,
): Document {
  const filled: Record<string, unknown> = {}
  for (const hook of ['leave', 'reboot'] as const) {
    const written = document[hook]
    if (typeof written !== 'object' || written === null || Array.isArray(written)) continue
    const before = stored?.[hook]
    const entries = Object.entries(written).map(([setting, value]) => {
      if (value !== masked || (setting !== 'kubeconfig' && setting !== 'secret')) return [setting, value]
      const sealed = (before as Document | undefined)?.[setting]
      if (stored === undefined || before?.kind !== (written as Document).kind || typeof sealed !== 'string')
        throw new PawlError(
          'invalid',
          `profile: ${hook}.${setting} is "${masked}", and nothing is stored there`,
          {
            hint: 'give the value itself; it is stored sealed and shown to nobody',
          },
        )
      if (sealed === kubeconfigOfJoin) return [setting, sealed]
      return [setting, sealer.open(sealed, secretPlace(stored.name, hook, setting))]
    })
    filled[hook] = Object.fromEntries(entries)
  }
  return filled
}
