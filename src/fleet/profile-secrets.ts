import { secretPlace } from '../boot/join-script.ts'
import type { SettingsSealer } from '../boot/settings-sealer.ts'
import { handsOutCredential, type Join, joinKinds, mapSecretSettings } from '../domain/join.ts'
import type { Profile, SequenceName } from '../domain/profile.ts'
import { PawlError } from '../errors.ts'

/** What stands for a secret setting wherever a profile is shown; sent back, it keeps the stored one. */
export const masked = '***'

const sequences = ['boot', 'reinstall'] as const satisfies SequenceName[]

/** The profile with each secret setting of its joins passed through `change`, which is told where it belongs. */
export function mapSecrets(
  profile: Profile,
  change: (value: string, setting: { sequence: SequenceName; name: string; place: string }) => string,
): Profile {
  const changed = { ...profile }
  for (const sequence of sequences) {
    const join = joinOf(profile, sequence)
    if (join === undefined || !handsOutCredential(join)) continue
    const mapped = mapSecretSettings(join, (value, name) =>
      change(value, { sequence, name, place: secretPlace(profile.name, sequence, name) }),
    )
    Object.assign(changed, { [sequence]: { ...(profile[sequence] as object), join: mapped } })
  }
  return changed
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
  const filled: Record<string, unknown> = { ...document }
  for (const sequence of sequences) {
    const written = document[sequence]
    if (!isRecord(written) || !isRecord(written.join) || !isRecord(written.join.settings)) continue
    const settings = fillSettings(written.join, written.join.settings, (name) => {
      const before = stored === undefined ? undefined : joinOf(stored, sequence)
      const sealed = (before?.settings as Record<string, string> | undefined)?.[name]
      if (
        stored === undefined ||
        before?.kind !== (written.join as { kind?: unknown }).kind ||
        sealed === undefined
      ) {
        throw new PawlError(
          'invalid',
          `profile: ${sequence}.join.settings.${name} is "${masked}", and nothing is stored there`,
          {
            hint: 'give the value itself; it is stored sealed and shown to nobody',
          },
        )
      }
      return sealer.open(sealed, secretPlace(stored.name, sequence, name))
    })
    filled[sequence] = { ...written, join: { ...written.join, settings } }
  }
  return filled
}

function fillSettings(
  join: Record<string, unknown>,
  settings: Record<string, unknown>,
  open: (name: string) => string,
): Record<string, unknown> {
  const { kind } = join
  const secret =
    typeof kind === 'string' && Object.hasOwn(joinKinds, kind)
      ? joinKinds[kind as Join['kind']].secretSettings
      : []
  return Object.fromEntries(
    Object.entries(settings).map(([name, value]) => [
      name,
      value === masked && secret.includes(name) ? open(name) : value,
    ]),
  )
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
