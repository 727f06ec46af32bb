/**
 * Artifacts in a local folder, named by their SHA-256: FOLDER/<64 hex>. A file gets its name only by `rename`, when it is
 * whole, right and synced; then the folder is synced. So a name that is there is right, whenever the power went.
 */
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Digest } from '../domain/digest.ts'
import { PawlError } from '../errors.ts'
import type { ArtifactShelf, OpenArtifact, StoredArtifact } from './artifacts.ts'
import { checkDigest, hasCode, notStored, syncFolder } from './bytes.ts'
import type { PutStep } from './spool.ts'

const readBytes = 2 ** 20

/** Opens the folder, making it where it is not there. */
export async function openLocalShelf(
  folder: string,
  faults: ((step: PutStep) => void) | undefined,
): Promise<ArtifactShelf> {
  await mkdir(folder, { recursive: true, mode: 0o750 })
  await syncFolder(dirname(folder))
  const pathOf = (digest: Digest): string => join(folder, digest)
  return {
    has: async (digest) => (await statOf(pathOf(digest)))?.size,
    open: (digest) => openFile(pathOf(digest), digest),
    verify: async (digest) => {
      const file = await openHandle(pathOf(digest), digest)
      return checkDigest(file.createReadStream({ highWaterMark: readBytes }), digest) // which closes it
    },
    // Over a file that is there already: it has the same bytes, or it went bad on the disk and is healed now.
    async take(digest, path) {
      await rename(path, pathOf(digest))
      faults?.('renamed')
      await syncFolder(folder)
      faults?.('folder-synced')
    },
    async remove(digest) {
      await rm(pathOf(digest), { force: true })
      await syncFolder(folder)
    },
    list: () => listFiles(folder),
  }
}

async function* listFiles(folder: string): AsyncGenerator<StoredArtifact> {
  for (const name of await readdir(folder)) {
    const found = /^[0-9a-f]{64}$/.test(name) ? await statOf(join(folder, name)) : undefined
    if (found !== undefined) yield { digest: name as Digest, size: found.size, modifiedAt: found.mtime } // by the line above
  }
}

async function openHandle(path: string, digest: Digest): Promise<FileHandle> {
  return open(path, 'r').catch((error: unknown) => {
    throw hasCode(error, 'ENOENT') ? notStored(digest) : error
  })
}

async function openFile(path: string, digest: Digest): Promise<OpenArtifact> {
  const file = await openHandle(path, digest)
  try {
    const { size } = await file.stat()
    return {
      size,
      read: (into, position) => readFully(file, into, position, digest),
      close: () => file.close(),
    }
  } catch (error) {
    await file.close()
    throw error
  }
}

async function readFully(
  file: FileHandle,
  into: Uint8Array,
  position: number,
  digest: Digest,
): Promise<void> {
  for (let filled = 0; filled < into.length; ) {
    const { bytesRead } = await file.read(into, filled, into.length - filled, position + filled)
    if (bytesRead === 0) {
      throw new PawlError(
        'digest-mismatch',
        `artifact ${digest} ends at byte ${position + filled}: its file was cut`,
      )
    }
    filled += bytesRead
  }
}

async function statOf(path: string): Promise<{ size: number; mtime: Date } | undefined> {
  try {
    return await stat(path)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}
