import { imagesOfStage } from './architecture.ts'
import { parseImageSource } from './channel.ts'
import type { Profile } from './profile.ts'

/** Every image that a profile's sequences name, as they are written, each once. */
export function sourcesOf(profile: Profile): string[] {
  const all = [profile.boot, profile.reinstall].flatMap((sequence) =>
    typeof sequence === 'object' && 'stage2' in sequence
      ? [...imagesOfStage(sequence.stage2), ...imagesOfStage(sequence.stage3)]
      : [],
  )
  return [...new Set(all)]
}

/** The names of the images that a profile's sequences boot as their stage 2. */
export function stage2ImagesOf(profile: Profile): string[] {
  return [profile.boot, profile.reinstall].flatMap((sequence) =>
    typeof sequence === 'object' && 'stage2' in sequence
      ? imagesOfStage(sequence.stage2).map((source) => parseImageSource(source).name)
      : [],
  )
}
