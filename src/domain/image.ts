import { PawlError } from '../errors.ts'
import { type Architecture, architectures } from './architecture.ts'
import type { Branded } from './brand.ts'
import { canonicalJson } from './canonical-json.ts'
import { type Digest, digestOf, digestPattern } from './digest.ts'
import { parseKernelArguments } from './kernel-args.ts'
import { quote } from './node.ts'
import Type, { Compile, type Static } from './schema.ts'

/** An image's name. */
export type ImageName = Branded<string, 'ImageName'>
/** One version of an image; it never changes once published. */
export type ImageVersion = Branded<string, 'ImageVersion'>

/** `name@version`, read. */
export interface ImageRef {
  readonly name: ImageName
  readonly version: ImageVersion
}

/** What an artifact is for. A manifest lists its artifacts in this order. */
export const artifactRoles = ['kernel', 'initramfs', 'filesystem'] as const
export type ArtifactRole = (typeof artifactRoles)[number]

/** The largest artifact: 64 GiB. A size is a safe integer, so that it is the same number for every reader of the JSON. */
export const maxArtifactBytes = 64 * 2 ** 30

/** Names become file names, URL parts and iPXE words somewhere: nothing that any of these reads as more than a name. */
const namePattern = '^[a-z0-9][a-z0-9._-]{0,62}$'
const name = new RegExp(namePattern)

const artifactSchema = Type.Object(
  {
    role: Type.Union(artifactRoles.map((role) => Type.Literal(role))),
    digest: Type.String({ pattern: digestPattern }),
    size: Type.Integer({ minimum: 1, maximum: maxArtifactBytes }),
    mediaType: Type.String({ pattern: '^[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}$' }),
  },
  { additionalProperties: false },
)

/** The largest manifest, as canonical JSON: room for a bill of materials in its annotations. */
export const maxManifestBytes = 256 * 1024
const maxAnnotations = 64
const annotationPattern = '^[a-z0-9][a-z0-9._/-]{0,127}$'

function printable(maxLength: number) {
  return Type.String({ minLength: 1, maxLength, pattern: '^[^\\p{Cc}\\p{Cf}\\p{Cs}]*$' })
}

/** A manifest as it is sent and stored. `schema` changes when a reader of this one would misread the next. */
export const manifestSchema = Type.Object(
  {
    schema: Type.Literal('pawl.image/v1'),
    name: Type.String({ pattern: namePattern }),
    version: Type.String({ pattern: namePattern }),
    arch: Type.Union(architectures.map((word) => Type.Literal(word))),
    kernelArguments: Type.String({ maxLength: 2047 }),
    minMemoryMiB: Type.Optional(Type.Integer({ minimum: 1, maximum: 2 ** 26 })),
    creator: Type.Optional(printable(256)),
    createdAt: Type.Optional(
      Type.String({ pattern: '^\\d{4}-[01]\\d-[0-3]\\dT[0-2]\\d:[0-5]\\d:[0-5]\\dZ$' }),
    ),
    sourceRevision: Type.Optional(printable(256)),
    annotations: Type.Optional(
      Type.Record(Type.String({ pattern: annotationPattern }), Type.String({ maxLength: maxManifestBytes })),
    ),
    artifacts: Type.Array(artifactSchema, { minItems: 2, maxItems: artifactRoles.length }),
  },
  { additionalProperties: false, $id: 'Manifest' },
)

/** One file of an image, named by its content. */
export interface Artifact {
  readonly role: ArtifactRole
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  readonly mediaType: string
}

/** What an image is: its canonical JSON's digest is its identity. */
export interface Manifest {
  readonly schema: 'pawl.image/v1'
  readonly name: ImageName
  readonly version: ImageVersion
  readonly arch: Architecture
  readonly kernelArguments: string
  /** What the node must have, in MiB, before it jumps into this image. */
  readonly minMemoryMiB?: number
  /** Who built it, in words. */
  readonly creator?: string
  /** When it was built: UTC, to the second, `2026-11-21T09:30:00Z`. */
  readonly createdAt?: string
  /** What it was built from: a commit, a tag. */
  readonly sourceRevision?: string
  /** Whatever else its builder says of it; Pawl reads none of it. */
  readonly annotations?: Readonly<Record<string, string>>
  readonly artifacts: readonly Artifact[]
}

/** Reads an image's name; throws `invalid`. */
export function parseImageName(text: string): ImageName {
  return parsePart(text, 'image name') as ImageName
}

/** Reads an image's version; throws `invalid`. */
export function parseImageVersion(text: string): ImageVersion {
  return parsePart(text, 'image version') as ImageVersion
}

/** Reads `name@version`; throws `invalid`. */
export function parseImageRef(text: string): ImageRef {
  const [before, after, ...more] = text.split('@')
  if (before === undefined || after === undefined || more.length > 0) {
    throw new PawlError('invalid', `${quote(text)} is not of the form name@version`)
  }
  return { name: parseImageName(before), version: parseImageVersion(after) }
}

/** Writes `name@version`. */
export function formatImageRef(ref: ImageRef): string {
  return `${ref.name}@${ref.version}`
}

const compiled = Compile(manifestSchema, 'machines')

/** Reads a manifest; throws `invalid` naming the field and what it breaks. Unknown fields are refused: they would be signed unread. */
export function parseManifest(value: unknown): Manifest {
  if (!compiled.Check(value)) throw firstFault(value)
  parseImageName(value.name)
  parseImageVersion(value.version)
  checkRoles(value.artifacts)
  checkAbout(value)
  if (parseKernelArguments(value.kernelArguments) !== value.kernelArguments) {
    throw new PawlError(
      'invalid',
      'manifest: kernelArguments must have one space between words and none around',
    )
  }
  return value as Manifest & Static<typeof manifestSchema> // checked above: the patterns are the brands' whole rules
}

/** The image's identity: the SHA-256 of the manifest's canonical JSON. */
export function manifestDigest(manifest: Manifest): Digest {
  return digestOf(canonicalJson(manifest))
}

/** The manifest's artifact of a role. */
export function artifactOfRole(manifest: Manifest, role: ArtifactRole): Artifact | undefined {
  return manifest.artifacts.find((artifact) => artifact.role === role)
}

function parsePart(text: string, what: string): string {
  if (!name.test(text) || text.includes('..')) {
    throw new PawlError('invalid', `${quote(text)} is not an ${what}`, {
      hint: 'use 1 to 63 of a-z, 0-9, ".", "_" and "-", beginning with a letter or digit, without ".."',
    })
  }
  return text
}

/** One order only, so that one image cannot have two digests. */
function checkRoles(artifacts: Static<typeof manifestSchema>['artifacts']): void {
  const roles = artifacts.map((artifact) => artifact.role).join(', ')
  if (roles === 'kernel, initramfs' || roles === 'kernel, initramfs, filesystem') return
  throw new PawlError(
    'invalid',
    `manifest: artifacts are ${roles}, not one kernel, one initramfs and at most one filesystem, in this order`,
  )
}

function checkAbout(manifest: Static<typeof manifestSchema>): void {
  const { createdAt, annotations = {} } = manifest
  // `Date` would make the 2nd of March of a 30th of February.
  if (createdAt !== undefined && !isTime(createdAt))
    throw new PawlError('invalid', `manifest: createdAt ${createdAt} is no time`)
  const names = Object.keys(annotations)
  const wrong = names.find((key) => !new RegExp(annotationPattern).test(key))
  if (wrong !== undefined) {
    throw new PawlError(
      'invalid',
      `manifest: annotation name ${quote(wrong)} is not 1 to 128 of a-z, 0-9 and . _ / -`,
    )
  }
  if (names.length > maxAnnotations)
    throw new PawlError('invalid', `manifest: ${names.length} annotations; ${maxAnnotations} are the limit`)
  const bytes = Buffer.byteLength(canonicalJson(manifest))
  if (bytes > maxManifestBytes)
    throw new PawlError('too-large', `the manifest has ${bytes} bytes; ${maxManifestBytes} are the limit`)
}

function isTime(text: string): boolean {
  const time = new Date(text)
  return !Number.isNaN(time.getTime()) && time.toISOString() === text.replace('Z', '.000Z')
}

function firstFault(value: unknown): PawlError {
  const errors = compiled.Errors(value)
  const unknown = errors.find((error) => error.keyword === 'additionalProperties')
  if (unknown !== undefined) {
    // typebox names the unknown fields in this parameter.
    const names = (unknown.params as { additionalProperties: string[] }).additionalProperties
    return new PawlError('invalid', `manifest: unknown field ${quote(names[0] ?? '')}`)
  }
  // Of a union's many errors the deepest path says most about what was meant.
  const [deepest] = [...errors].sort((a, b) => b.instancePath.length - a.instancePath.length)
  const path = (deepest?.instancePath ?? '').slice(1).replaceAll('/', '.')
  return new PawlError(
    'invalid',
    `manifest${path === '' ? '' : `: ${path}`} ${deepest?.message ?? 'is not a manifest'}`,
  )
}
