import type { Architecture } from '../domain/architecture.ts'
import type { Artifact, Manifest } from '../domain/image.ts'
import { artifactOfRole, formatImageRef } from '../domain/image.ts'
import { PawlError } from '../errors.ts'
import type { ArtifactStore } from './artifacts.ts'
import { type KernelHeader, kernelHeaderBytes, parseKernelHeader } from './kernel-file.ts'

/**
 * Checks that an image can be made visible: every artifact is stored with the announced size and reads back with its digest,
 * and a machine can start its kernel. Throws `conflict`, `digest-mismatch` or `invalid`. Run it before the manifest's row
 * is written, outside the transaction: it reads every byte.
 */
export async function checkPublishable(manifest: Manifest, store: ArtifactStore): Promise<void> {
  for (const artifact of manifest.artifacts) await checkStored(manifest, artifact, store)
  const kernel = artifactOfRole(manifest, 'kernel')
  if (kernel === undefined) throw new PawlError('invalid', `${formatImageRef(manifest)} has no kernel`)
  const { maxCommandLineBytes } = await readKernelHeader(manifest.arch, kernel, store)
  if (manifest.kernelArguments.length > maxCommandLineBytes) {
    throw new PawlError(
      'invalid',
      `the kernel arguments have ${manifest.kernelArguments.length} bytes; this kernel takes ${maxCommandLineBytes}`,
    )
  }
}

async function checkStored(manifest: Manifest, artifact: Artifact, store: ArtifactStore): Promise<void> {
  const what = `${artifact.role} ${artifact.digest} of ${formatImageRef(manifest)}`
  const size = await store.has(artifact.digest)
  if (size === undefined) {
    throw new PawlError('conflict', `the ${what} is not stored`, {
      hint: 'send every artifact before the manifest',
    })
  }
  if (size !== artifact.size) {
    throw new PawlError(
      'digest-mismatch',
      `the ${what} has ${size} bytes, not the announced ${artifact.size}`,
    )
  }
  await store.verify(artifact.digest)
}

async function readKernelHeader(
  arch: Architecture,
  kernel: Artifact,
  store: ArtifactStore,
): Promise<KernelHeader> {
  const file = await store.open(kernel.digest)
  try {
    const head = Buffer.alloc(Math.min(kernelHeaderBytes, file.size))
    await file.read(head, 0)
    return parseKernelHeader(arch, head, file.size)
  } finally {
    await file.close()
  }
}
