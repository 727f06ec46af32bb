import type { BootContext } from '../boot/context.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import { formatImageRef, type Manifest, manifestDigest, parseManifest } from '../domain/image.ts'
import { reservedArguments } from '../domain/kernel-args.ts'
import { PawlError } from '../errors.ts'
import type { ArtifactStore } from '../images/artifacts.ts'
import { checkPublishable } from '../images/publish.ts'
import type { Queries } from '../storage/database.ts'
import { findImage } from '../storage/fleet.ts'
import { insertImage, listImages as listRows } from '../storage/images.ts'
import type { ImageRow } from '../storage/tables.ts'
import { type By, change } from './change.ts'

/** An image version as operators see it. */
export interface ImageView {
  /** `name@version`. */
  readonly ref: string
  /** SHA-256 of the manifest's canonical JSON: the image's identity. */
  readonly digest: string
  readonly manifest: Manifest
  readonly createdAt: string
  readonly createdBy: string
}

/** An image version as published; `created` is false where the same bytes were there before. */
export interface PublishedImage {
  readonly ref: string
  readonly digest: string
  readonly created: boolean
}

/**
 * Makes an image version visible, once all its artifacts are stored and read back right. Throws `exists` where the
 * version is published with other bytes: a version never changes.
 */
export async function publishImage(
  context: BootContext,
  by: By,
  store: ArtifactStore,
  document: unknown,
): Promise<PublishedImage> {
  const manifest = parseManifest(document)
  checkReserved(by, manifest)
  const published = { ref: formatImageRef(manifest), digest: manifestDigest(manifest) }
  const known = await findImage(context.storage.db, manifest.name, manifest.version)
  if (known !== undefined) return unchanged(known, published)
  await checkPublishable(manifest, store) // reads every byte: outside the transaction
  return change(context, by, async ({ tx, now, note }) => {
    const added = await insertImage(tx, {
      name: manifest.name,
      version: manifest.version,
      manifest: canonicalJson(manifest),
      digest: published.digest,
      created_at: now.toISOString(),
      created_by: by.actor,
    })
    if (!added) {
      // Someone published this version while we were reading.
      const first = await findImage(tx, manifest.name, manifest.version)
      if (first !== undefined) return unchanged(first, published)
    }
    await note('image-published', null, { image: published.ref, digest: published.digest })
    return { ...published, created: true }
  })
}

/** Shows an image version; throws `not-found`. */
export async function showImage(db: Queries, name: string, version: string): Promise<ImageView> {
  const row = await findImage(db, name, version)
  if (row !== undefined) return viewOf(row)
  throw new PawlError('not-found', `image "${name}@${version}" is not published`, {
    hint: 'list them with pawl image list',
  })
}

/** Shows every image version, by name, the newest of each first. */
export async function listImages(db: Queries): Promise<ImageView[]> {
  return (await listRows(db)).map(viewOf)
}

function unchanged(row: ImageRow, published: Omit<PublishedImage, 'created'>): PublishedImage {
  if (row.digest === published.digest) return { ...published, created: false }
  throw new PawlError('exists', `image ${published.ref} is published with digest ${row.digest}`, {
    hint: 'a version never changes: publish this one under another version',
  })
}

function viewOf(row: ImageRow): ImageView {
  const manifest = parseManifest(JSON.parse(row.manifest))
  return {
    ref: formatImageRef(manifest),
    digest: row.digest,
    manifest,
    createdAt: row.created_at,
    createdBy: row.created_by,
  }
}

function checkReserved(by: By, manifest: Manifest): void {
  const [reserved] = reservedArguments(manifest.kernelArguments)
  if (reserved === undefined || by.role === 'admin') return
  throw new PawlError('forbidden', `kernel argument "${reserved}" is reserved: it needs the role admin`)
}
