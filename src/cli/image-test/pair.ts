import {
  type Architecture,
  architectures,
  imageForMachine,
  type StageImage,
} from '../../domain/architecture.ts'
import { parseImageSource } from '../../domain/channel.ts'
import { formatImageRef, type ImageRef, parseImageRef, parseImageVersion } from '../../domain/image.ts'
import { PawlError } from '../../errors.ts'
import type { ChannelView, ImageView, Page, ProfileView } from '../answers.ts'
import { type Api, pathOf } from '../api.ts'
import { argument } from '../values.ts'

/** The two images of a boot: the one that is tried, and the one it is tried with. */
export interface Pair {
  readonly stage2: ImageRef
  readonly stage3: ImageRef
  readonly tried: 'stage2' | 'stage3'
}

/** How a pair is asked for; what is left out is found in the profiles. */
export interface PairFlags {
  readonly as?: 'stage2' | 'stage3'
  /** `name@version` or `name/channel`. */
  readonly with?: string
}

/** Finds what an image is booted with: as a profile that names it does, unless it is said. Throws `usage` where nothing says it. */
export async function findPair(api: Api, candidate: ImageRef, flags: PairFlags): Promise<Pair> {
  const used = await findUse(api, candidate)
  const tried = flags.as ?? used?.stage
  const partner = flags.with ?? (used?.stage === tried ? used?.partner : undefined)
  if (tried === undefined || partner === undefined) {
    throw new PawlError(
      'usage',
      `no profile boots an image named "${candidate.name}": it is not known what to boot it with`,
      {
        hint: `say it: --as stage3 --with NAME@VERSION, its stage-2 image (or the other way round)`,
      },
    )
  }
  const other = await resolve(api, partner)
  return tried === 'stage2'
    ? { tried, stage2: candidate, stage3: other }
    : { tried, stage2: other, stage3: candidate }
}

async function findUse(
  api: Api,
  { name }: ImageRef,
): Promise<{ stage: 'stage2' | 'stage3'; partner: string } | undefined> {
  const { items } = await api.get<Page<ProfileView, never>>('/profiles')
  for (const { profile } of items) {
    for (const sequence of [profile.boot, profile.reinstall]) {
      for (const { stage2, stage3 } of bootsOf(sequence)) {
        if (parseImageSource(stage3).name === name) return { stage: 'stage3', partner: stage2 }
        if (parseImageSource(stage2).name === name) return { stage: 'stage2', partner: stage3 }
      }
    }
  }
  return undefined
}

/** The images that a sequence boots one after the other, for each architecture that it has both for. */
function bootsOf(sequence: unknown): { stage2: string; stage3: string }[] {
  const stages = (sequence ?? {}) as { stage2?: StageImage; stage3?: StageImage }
  if (stages.stage2 === undefined || stages.stage3 === undefined) return []
  const { stage2, stage3 } = stages
  return architectures.flatMap((architecture) => {
    const [first, second] = [imageForMachine(stage2, architecture), imageForMachine(stage3, architecture)]
    return first === undefined || second === undefined ? [] : [{ stage2: first, stage3: second }]
  })
}

/** The processor that both images are for; throws `usage` where they are for two. */
export async function architectureOfPair(api: Api, { stage2, stage3 }: Pair): Promise<Architecture> {
  const [first, second] = await Promise.all(
    [stage2, stage3].map(({ name, version }) => api.get<ImageView>(`/images${pathOf(name, version)}`)),
  )
  const arch = first?.manifest.arch
  if (arch !== undefined && arch === second?.manifest.arch) return arch
  throw new PawlError(
    'usage',
    `${formatImageRef(stage2)} is for ${arch}, and ${formatImageRef(stage3)} for ${second?.manifest.arch}`,
    { hint: 'name the other image with --with' },
  )
}

/** A channel's version now. */
async function resolve(api: Api, written: string): Promise<ImageRef> {
  const source = argument(written, parseImageSource)
  if (source.kind === 'version') return { name: source.name, version: source.version }
  const { version } = await api.get<ChannelView>(`/channels/${source.name}/${source.channel}`)
  if (version === null) throw new PawlError('conflict', `channel ${written} points at nothing yet`)
  return { name: source.name, version: parseImageVersion(version) }
}

/** Reads the candidate. */
export function candidateOf(text: string): ImageRef {
  return argument(text, parseImageRef)
}

/** Both images, each once, the stage-2 image first. */
export function imagesOf({ stage2, stage3 }: Pair): ImageRef[] {
  return formatImageRef(stage2) === formatImageRef(stage3) ? [stage2] : [stage2, stage3]
}
