import { secretPlace } from '../boot/join-script.ts'
import type { SettingsSealer } from '../boot/settings-sealer.ts'
import { type Join, type JoinSecret, mapSecretFields, mapSecretSettings } from '../domain/join.ts'
import { mapHookSecrets } from '../domain/leave.ts'
import type { Profile, SequenceName } from '../domain/profile.ts'
import { PawlError } from '../errors.ts'
import { hooksWithStoredSecrets } from './hook-secrets.ts'

/** What stands for a secret setting wherever a profile is shown; sent back, it keeps the stored one. */
export const masked = '***'

const sequences = ['boot', 'reinstall'] as const satisfies SequenceName[]

/** The profile with each secret setting of its joins and hooks passed through `change`, which is told where it belongs. */
export function mapSecrets(
  profile: Profile,
  change: (value: string, setting: { at: string; place: string }) => string,
): Profile {
  const hooks = mapHookSecrets(profile, (value, hook, name) =>
    change(value, { at: `${hook}.${name}`, place: secretPlace(profile.name, hook, name) }),
  )
  const changed = { ...profile, ...hooks }
  for (const sequence of sequences) {
    const join = joinOf(profile, sequence)
    if (join === undefined) continue
    const mapped = mapSecretSettings(join, (value, name, field) =>
      change(value, {
        at: `${sequence}.join.${field}`,
        place: secretPlace(profile.name, sequence, name),
      }),
    )
    Object.assign(changed, { [sequence]: { ...(profile[sequence] as object), join: mapped } })
  }
  return changed
}

/** The secrets that a profile has, by the path of their fields: `leave.kubeconfig`. */
export function secretsIn(profile: Profile): Map<string, string> {
  const secrets = new Map<string, string>()
  mapSecrets(profile, (value, { at }) => {
    secrets.set(at, value)
    return value
  })
  return secrets
}

/** The join of a sequence, where it has one. */
export function joinOf(profile: Profile, sequence: SequenceName): Join | undefined {
  const written = profile[sequence]
  return typeof written === 'object' && 'join' in written ? written.join : undefined
}

/**
 * A document as it was sent, with each `***` that stands for a secret setting replaced by the stored one. Throws
 * `invalid` where nothing is stored there. What is not of a profile's form is left for `parseProfile` to refuse.
 */
export function withStoredSecrets(
  document: unknown,
  stored: Profile | undefined,
  sealer: SettingsSealer,
): unknown {
  if (!isRecord(document)) return document
  const filled: Record<string, unknown> = {
    ...document,
    ...hooksWithStoredSecrets(document, stored, sealer, masked),
  }
  for (const sequence of sequences) {
    const written = document[sequence]
    if (!isRecord(written) || !isRecord(written.join)) continue
    const before = stored === undefined ? undefined : joinOf(stored, sequence)
    const join = mapSecretFields(written.join, (value, secret) => {
      if (value !== masked) return value
      const sealed = storedSecret(before, written.join as Record<string, unknown>, secret)
      if (stored !== undefined && sealed !== undefined)
        return sealer.open(sealed, secretPlace(stored.name, sequence, secret.name))
      const at = `${sequence}.join.${secret.part}.${secret.field}`
      throw new PawlError('invalid', `profile: ${at} is "${masked}", and nothing is stored there`, {
        hint: 'give the value itself; it is stored sealed and shown to nobody',
      })
    })
    filled[sequence] = { ...written, join }
  }
  return filled
}

/** The secret that is stored for a join of the same kind. */
function storedSecret(
  before: Join | undefined,
  written: Readonly<Record<string, unknown>>,
  { part, field }: JoinSecret,
): string | undefined {
  const [old, now] = part === 'settings' ? [before, written] : [before?.overlay, written.overlay]
  if ((old as { kind?: unknown } | undefined)?.kind !== (now as { kind?: unknown }).kind) return undefined
  return (before?.[part] as Record<string, string> | undefined)?.[field]
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
