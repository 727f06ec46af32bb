import type { BootContext } from '../boot/context.ts'
import { formatImageRef, type ImageRef, parseManifest } from '../domain/image.ts'
import { PawlError } from '../errors.ts'
import { findImage } from '../storage/fleet.ts'
import { deleteImage, lockImages } from '../storage/images.ts'
import { lockArtifacts } from '../storage/removals.ts'
import { type By, change } from './change.ts'
import { findUses } from './image-uses.ts'
import { type PrunableStore, removeArtifacts } from './prune.ts'

/** An image version that is gone. */
export interface RemovedImage {
  readonly ref: string
  /** Bytes of its artifacts that no other version has: they are gone too. */
  readonly bytes: number
}

/**
 * Removes one image version, and those of its bytes that no other has. Throws `not-found`, and `conflict` where something may
 * boot it. The version is not free again: its name means these bytes for ever.
 */
export async function removeImage(
  context: BootContext,
  by: By,
  store: PrunableStore,
  ref: ImageRef,
): Promise<RemovedImage> {
  const written = formatImageRef(ref)
  const artifacts = await change(context, by, async ({ tx, now, note }) => {
    await lockArtifacts(tx, context.storage.dialect)
    await lockImages(tx, context.storage.dialect, [ref])
    const row = await findImage(tx, ref.name, ref.version)
    if (row === undefined) throw new PawlError('not-found', `there is no image ${written}`)
    const user = (await findUses(tx)).versions.get(written)
    if (user !== undefined)
      throw new PawlError('conflict', `image ${written} is used by ${user}`, {
        hint: 'take it out of use first',
      })
    await deleteImage(tx, ref.name, ref.version, now)
    await note('images-pruned', null, { count: 1, versions: [written] })
    return parseManifest(JSON.parse(row.manifest)).artifacts
  })
  const gone = await removeArtifacts(context, by, store, artifacts)
  const bytes = artifacts.reduce((sum, { digest, size }) => sum + (gone.includes(digest) ? size : 0), 0)
  return { ref: written, bytes }
}
