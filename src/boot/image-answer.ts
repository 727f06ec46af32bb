import { cachedUrl } from '../domain/artifact-base.ts'
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

/**
 * Where else an artifact may be had, from whom nobody need trust: for clients that check its digest, and then ask us. Only
 * with `downloads: digest`: no capability goes there.
 */
export function mirrorUrl({ context }: Work, pinned: Pinned, artifact: Artifact): string | undefined {
  if (pinned.downloads !== 'digest') return undefined
  if (pinned.artifactBase !== undefined) return cachedUrl(pinned.artifactBase, artifact.digest)
  return pinned.redirects === true ? context.redirects?.openUrlOf?.(artifact.digest) : undefined
}

/** An artifact as agents are told of it. */
export function artifactEntry(
  work: Work,
  node: string,
  pinned: Pinned,
  artifact: Artifact,
): Record<string, unknown> {
  const mirror = mirrorUrl(work, pinned, artifact)
  return {
    url: artifactUrl(work, node, pinned, artifact),
    ...(mirror === undefined ? {} : { mirror }),
    sha256: artifact.digest,
    size: artifact.size,
  }
}

/** Kernel, initramfs and arguments of an image, as agents are told them. */
export function described(
  work: Work,
  node: string,
  pinned: Pinned,
  image: PinnedImage,
): Record<string, unknown> {
  const entry = (role: Artifact['role']): Record<string, unknown> =>
    artifactEntry(work, node, pinned, artifactOf(image, role, node))
  return {
    image: image.ref,
    kernel: entry('kernel'),
    initramfs: entry('initramfs'),
    args: image.arguments,
    minMemoryMiB: image.minMemoryMiB,
  }
}
