import { architectureOf, imageForMachine, type StageImage } from '../domain/architecture.ts'
import { artifactBaseOf } from '../domain/artifact-base.ts'
import type { Facts } from '../domain/facts.ts'
import { type Artifact, formatImageRef, parseManifest } from '../domain/image.ts'
import type { Join } from '../domain/join.ts'
import { checkCommandLine, joinKernelArguments } from '../domain/kernel-args.ts'
import type { ChainSequence, EvidenceName, ImageSequence, Profile, SequenceName } from '../domain/profile.ts'
import { Refusal } from '../domain/refusal.ts'
import type { NodeRow } from '../storage/tables.ts'
import { checkSigned } from './check-signature.ts'
import { checkJoin } from './join-script.ts'
import { checkSeed } from './join-seed.ts'
import { readingOnce } from './reading-once.ts'
import { resolveImage, type Via } from './resolve-image.ts'
import type { Work } from './work.ts'

/** What stage 1 fixes of the secret that the machine came with. */
export interface UsedSecret {
  readonly id: string
  /** Whether stage 3 is given another one. */
  readonly rotates: boolean
}

/** An image as a session uses it: the version and every digest are fixed now. */
export interface PinnedImage {
  readonly ref: string
  /** The manifest's digest: the image's identity. */
  readonly digest: string
  /** The publishers that made it good for the profile; sessions opened by a Pawl of before have no such list. */
  readonly signedBy?: readonly string[]
  /** Through which channel and rollout; left out where the profile names the version itself. */
  readonly via?: Via
  readonly minMemoryMiB: number | null
  /** The image's kernel arguments, then the profile's. */
  readonly arguments: string
  readonly artifacts: Readonly<Partial<Record<Artifact['role'], Artifact>>>
}

/** Everything that is decided at stage 1, so that nothing published or changed later touches this boot. */
export interface Pinned {
  readonly profile: string
  readonly evidence: readonly EvidenceName[]
  readonly downloads: 'session' | 'digest'
  /** Whether agents are sent to the object storage for the stage-3 image. */
  readonly redirects?: boolean
  /** The cache near the node. */
  readonly artifactBase?: string
  /** Whether iPXE is to check signatures. */
  readonly imgverify?: boolean
  readonly images?: { readonly stage2: PinnedImage; readonly stage3: PinnedImage }
  /** Its secret settings are sealed. */
  readonly join?: Join
  readonly chain?: ChainSequence
  /** The operations that the boot may ask extensions for, sorted. */
  readonly extensions?: readonly string[]
  /** The SHA-256 of the root by which its stage 1 came; sessions of before have none. */
  readonly root?: string
  /** Whom the node may be given identity documents for: its agent makes a key then. */
  readonly identity?: { readonly audiences: readonly string[] }
  /** The enrolment secret that the machine came with. */
  readonly secret?: UsedSecret
}

/** Pins a sequence of images. Refuses when one is not published, or is for another architecture than the machine's. */
export async function pinImages(
  work: Work,
  node: NodeRow,
  profile: Profile,
  name: SequenceName,
  sequence: ImageSequence,
  facts: Facts,
): Promise<Pinned> {
  const stage2 = await pinImage(work, node, profile, sequence.stage2, facts)
  const stage3 = await pinImage(work, node, profile, sequence.stage3, facts)
  const { join } = sequence
  const labels = JSON.parse(node.labels) as Record<string, string> // our own row
  const session = { id: 'AAAAAAAAAAAA', sequence: name }
  const place = { host: node.name, session: session.id, profile: profile.name, sequence: name, labels }
  checkJoin(place, join)
  checkSeed(work.context, { node, session, pinned: { profile: profile.name, join } }, stage3.arguments)
  const artifactBase = artifactBaseOf(profile.artifactBase, labels)
  return {
    ...pinBasics(profile, name),
    images: { stage2, stage3 },
    join,
    ...(profile.identity === undefined ? {} : { identity: { audiences: profile.identity.audiences } }),
    ...(artifactBase === undefined ? {} : { artifactBase }),
  }
}

/** Pins a chain of the user's own URLs. */
export function pinChain(profile: Profile, name: SequenceName, chain: ChainSequence): Pinned {
  return { ...pinBasics(profile, name), chain }
}

/** Pins what every sequence has. */
export function pinBasics(profile: Profile, name: SequenceName): Pinned {
  const { downloads, redirects, imgverify } = profile
  return {
    ...{ profile: profile.name, evidence: profile.evidence[name], downloads, redirects, imgverify },
    ...(profile.extensions === undefined ? {} : { extensions: profile.extensions }),
  }
}

/**
 * Reads what `JSON.stringify` of a session's pinned values has stored. One step of a boot asks for the same several times, and the
 * next steps of the boots that are under way follow soon; sessions without a secret have one text for all of a profile.
 */
export const readPinned = readingOnce(200, (text) => JSON.parse(text) as Pinned) // our own row, written by serve-stage1 only

/** Reads and checks a stored manifest; once for each text, since a fleet boots a few images. */
const readManifest = readingOnce(200, (text) => parseManifest(JSON.parse(text)))

/** Reads a session's facts as stored. */
export function readFacts(text: string): Facts {
  return JSON.parse(text) as Facts // our own row
}

async function pinImage(
  work: Work,
  node: NodeRow,
  profile: Profile,
  stage: StageImage,
  facts: Facts,
): Promise<PinnedImage> {
  const { ref, row, via } = await resolveImage(work, node, imageFor(node, stage, facts))
  const manifest = readManifest(row.manifest)
  const machine = architectureOf(facts)
  // A kernel for another processor would end in a firmware's error, or in none at all. Who does not tell is not judged.
  if (machine !== undefined && machine !== manifest.arch)
    throw wrongArchitecture(node, facts, { image: formatImageRef(ref), imageArch: manifest.arch })
  return {
    ref: formatImageRef(ref),
    digest: row.digest,
    signedBy: checkSigned(node.name, profile, ref, row.signers),
    ...(via === undefined ? {} : { via }),
    minMemoryMiB: manifest.minMemoryMiB ?? null,
    // Both images' are checked before any token is minted: the second's would else be found by kexec, in the middle.
    arguments: checkCommandLine(joinKernelArguments(manifest.kernelArguments, profile.kernelArguments)),
    artifacts: Object.fromEntries(manifest.artifacts.map((artifact) => [artifact.role, artifact])),
  }
}

function imageFor(node: NodeRow, stage: StageImage, facts: Facts): string {
  const machine = architectureOf(facts)
  const written = imageForMachine(stage, typeof machine === 'string' ? machine : undefined)
  if (written === undefined)
    throw wrongArchitecture(node, facts, { images: typeof stage === 'string' ? stage : Object.keys(stage) })
  return written
}

function wrongArchitecture(node: NodeRow, facts: Facts, detail: Record<string, unknown>): Refusal {
  return new Refusal('wrong-architecture', {
    node: node.name,
    detail: { buildarch: facts.buildarch ?? null, ...detail },
  })
}
