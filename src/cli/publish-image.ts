import { stat } from 'node:fs/promises'
import {
  type ArtifactRole,
  artifactRoles,
  formatImageRef,
  type ImageRef,
  type Manifest,
  manifestDigest,
  parseImageRef,
  parseManifest,
} from '../domain/image.ts'
import { parseKernelArguments } from '../domain/kernel-args.ts'
import type { ImageSignature } from '../domain/signature.ts'
import { isPawlError, PawlError } from '../errors.ts'
import type { ImageView, PublishedImage } from './answers.ts'
import { type Api, pathOf } from './api.ts'
import { type AboutFlags, aboutAsPublished, readAbout } from './image-about.ts'
import { hashFile, type ImageFile } from './image-files.ts'
import type { Io } from './io.ts'
import { showProgress } from './progress.ts'
import { clearing, sendArtifact } from './send-artifact.ts'
import { argument } from './values.ts'

/** What to publish. */
export interface PublishRequest {
  /** `name@version`. */
  readonly ref: string
  /** Paths. */
  readonly files: Readonly<Partial<Record<ArtifactRole, string>>>
  readonly kernelArguments: string
  readonly arch: string
  readonly minMemoryMiB: number | undefined
  readonly about: AboutFlags
  /** Signs the manifest; undefined: it is published unsigned. */
  readonly sign: ((manifest: Manifest) => ImageSignature) | undefined
}

/**
 * Publishes an image: hashes its files, sends those that the server does not have, then the manifest, which makes it
 * visible. Cut off anywhere, nothing is visible, and the next run sends only the rest.
 */
export async function publishImage(api: Api, io: Io, request: PublishRequest): Promise<PublishedImage> {
  const ref = argument(request.ref, parseImageRef)
  const kernelArguments = argument(request.kernelArguments, parseKernelArguments)
  const files = await hashFiles(io, request.files)
  const known = await findPublished(api, ref)
  const about = await readAbout(io, request.about)
  const manifest = parseManifest({
    schema: 'pawl.image/v1',
    ...ref,
    ...(known === undefined ? about : aboutAsPublished(about, request.about, known.manifest)),
    arch: request.arch,
    kernelArguments,
    ...(request.minMemoryMiB === undefined ? {} : { minMemoryMiB: request.minMemoryMiB }),
    artifacts: files.map(({ role, digest, size }) => ({
      role,
      digest,
      size,
      mediaType: 'application/octet-stream',
    })),
  })
  if (known !== undefined) refuseOther(known, manifest)
  for (const file of files) await sendArtifact(api, io, file)
  const signature = request.sign?.(manifest)
  return confirm(manifest, await api.create<PublishedImage>('/images', { manifest, signature }))
}

async function hashFiles(io: Io, paths: PublishRequest['files']): Promise<ImageFile[]> {
  const files: ImageFile[] = []
  for (const role of artifactRoles) {
    const path = paths[role]
    if (path === undefined) continue
    const progress = showProgress(io, `reading ${role}`, await sizeOf(path))
    const file = await clearing(progress, () => hashFile(role, path, progress.add))
    progress.clear()
    files.push(file)
  }
  return files
}

/** For the bar only; what is wrong with the file is told where it is opened. */
async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 1,
  )
}

async function findPublished(api: Api, { name, version }: ImageRef): Promise<ImageView | undefined> {
  try {
    return await api.get<ImageView>(`/images${pathOf(name, version)}`)
  } catch (error) {
    if (isPawlError(error, 'not-found')) return undefined
    throw error
  }
}

/** Gigabytes are not sent to find out at the end that the version is taken. */
function refuseOther(known: ImageView, manifest: Manifest): void {
  if (known.digest === manifestDigest(manifest)) return
  throw new PawlError(
    'exists',
    `image ${formatImageRef(manifest)} is published with digest ${known.digest}`,
    {
      hint: 'a version never changes: publish this one under another version',
    },
  )
}

/** Server and client compute the digest each for itself: it is the image's identity, and goes into other records. */
function confirm(manifest: Manifest, published: PublishedImage): PublishedImage {
  const expected = manifestDigest(manifest)
  if (published.digest === expected) return published
  throw new PawlError(
    'digest-mismatch',
    `the server published digest ${published.digest}, this pawl computed ${expected}`,
    { hint: 'are both of the same version?' },
  )
}
