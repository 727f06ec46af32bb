import type { Artifact } from '../domain/image.ts'
import { Refusal } from '../domain/refusal.ts'
import { bootBase } from './entry.ts'
import type { Pinned, PinnedImage } from './pin.ts'
import type { Work } from './work.ts'

/** An image's artifact of a role; refuses where it has none. */
export function artifactOf(image: PinnedImage, role: Artifact['role'], node: string): Artifact {
  const artifact = image.artifacts[role]
  if (artifact === undefined)
    throw new Refusal('no-such-artifact', { node, detail: { image: image.ref, role } })
  return artifact
}

/** Where the node gets an artifact: below its own routes, or by digest where the profile lets caches see it. */
export function artifactUrl(work: Work, node: string, pinned: Pinned, artifact: Artifact): string {
  const { entry } = work.context
  return pinned.downloads === 'digest'
    ? `${entry.publicUrl}/v1/artifacts/sha256/${artifact.digest}`
    : `${bootBase(entry, node)}/artifacts/${artifact.role}`
}

/** Kernel, initramfs and arguments of an image, as agents are told them. */
export function described(
  work: Work,
  node: string,
  pinned: Pinned,
  image: PinnedImage,
): Record<string, unknown> {
  const entry = (role: Artifact['role']): Record<string, unknown> => {
    const artifact = artifactOf(image, role, node)
    return { url: artifactUrl(work, node, pinned, artifact), sha256: artifact.digest, size: artifact.size }
  }
  return {
    image: image.ref,
    kernel: entry('kernel'),
    initramfs: entry('initramfs'),
    args: image.arguments,
    minMemoryMiB: image.minMemoryMiB,
  }
}
