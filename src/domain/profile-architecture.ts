import { PawlError } from '../errors.ts'
import { formatImageRef, type Manifest } from './image.ts'
import type { Profile } from './profile.ts'

/**
 * Throws `invalid` where a profile gives an image to machines of another architecture than it is for. `written` is how the profile
 * names it: `name@version` or `name/channel`.
 */
export function checkArchitecture(profile: Profile, written: string, manifest: Manifest): void {
  for (const sequence of [profile.boot, profile.reinstall]) {
    if (typeof sequence !== 'object' || !('stage2' in sequence)) continue
    for (const stage of ['stage2', 'stage3'] as const) {
      const wrong = wrongKey(sequence[stage], written, manifest)
      if (wrong === undefined) continue
      throw new PawlError(
        'invalid',
        `profile "${profile.name}": ${stage} gives ${written} to ${wrong} machines, and ${formatImageRef(manifest)} is for ${manifest.arch}`,
      )
    }
  }
}

function wrongKey(
  stage: string | Readonly<Record<string, string>>,
  written: string,
  { arch }: Manifest,
): string | undefined {
  if (typeof stage === 'string') return undefined
  return Object.keys(stage).find((key) => key !== arch && stage[key] === written)
}
