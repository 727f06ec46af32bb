import { formatImageRef, type ImageRef, type Manifest, parseManifest } from '../../domain/image.ts'
import { isPawlError, PawlError } from '../../errors.ts'
import type { ImageEvidence } from '../answers.ts'
import { type Api, pathOf } from '../api.ts'
import type { Io } from '../io.ts'
import { showProgress } from '../progress.ts'

/**
 * Copies an image from one server to another as it is: its bytes as a stream, its manifest, and its signatures with their
 * publishers. The other server checks them as any that are published.
 */
export async function copyImage(from: Api, to: Api, io: Io, ref: ImageRef): Promise<Manifest> {
  const evidence = await from.get<ImageEvidence>(`/images${pathOf(ref.name, ref.version)}/signatures`)
  const manifest = parseManifest(JSON.parse(evidence.manifest))
  for (const { role, digest, size } of manifest.artifacts) {
    const path = `/artifacts/sha256/${digest}`
    if ((await to.sent(path)).whole) continue
    const progress = showProgress(io, `${formatImageRef(ref)} ${role}`, size)
    await to.upload(path, await from.download(path, progress.add), { offset: 0, size })
    progress.clear()
  }
  const signatures = evidence.signatures.filter(({ revokedAt }) => revokedAt === null)
  await to.post('/images', { manifest })
  for (const { publisher, signature } of signatures) {
    await register(to, publisher, signature.certificates)
    await to.post(`/images${pathOf(ref.name, ref.version)}/signatures`, signature)
  }
  return manifest
}

async function register(to: Api, name: string, certificates: readonly string[]): Promise<void> {
  try {
    // Under a name of its own: the other server has made publishers itself.
    await to.post('/publishers', {
      name: `copied-${name}`.slice(0, 63),
      certificates: certificates.join('\n'),
    })
  } catch (error) {
    if (isPawlError(error, 'exists')) return
    throw error instanceof PawlError
      ? new PawlError(error.code, `the certificate of publisher "${name}" is not taken: ${error.message}`)
      : error
  }
}
