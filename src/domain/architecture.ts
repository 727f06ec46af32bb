import { type Architecture, architectures } from './architecture-name.ts'
import type { Facts } from './facts.ts'
import Type, { type Static } from './schema.ts'

export { type Architecture, architectures } from './architecture-name.ts'

const imageRef = Type.String({ maxLength: 130 })

/** The image of one stage, as a profile writes it: one for every machine, or one for each architecture. */
export const stageImageSchema = Type.Union([
  imageRef,
  Type.Object(
    { x86_64: Type.Optional(imageRef), arm64: Type.Optional(imageRef) },
    { additionalProperties: false, minProperties: 1 },
  ),
])
export type StageImage = Static<typeof stageImageSchema>

/** Every image that a stage names, as written. */
export function imagesOfStage(stage: StageImage): string[] {
  return typeof stage === 'string' ? [stage] : Object.values(stage)
}

/** The image that a stage has for a machine; undefined where it has none, and where the machine does not say what it is. */
export function imageForMachine(
  stage: StageImage,
  architecture: Architecture | undefined,
): string | undefined {
  if (typeof stage === 'string') return stage
  return architecture === undefined ? undefined : stage[architecture]
}

/**
 * What a machine is, by what its iPXE was built for (`${buildarch}`). A BIOS build says i386 on every PC. Another word is
 * returned as it is: no image is for it. Undefined: not told.
 */
export function architectureOf(facts: Facts): Architecture | { readonly other: string } | undefined {
  const told = facts.buildarch
  if (told === undefined) return undefined
  if (told === 'i386') return 'x86_64'
  return architectures.find((known) => known === told) ?? { other: told }
}
