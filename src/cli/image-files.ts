import { createHash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { type Digest, parseDigest } from '../domain/digest.ts'
import { type ArtifactRole, maxArtifactBytes } from '../domain/image.ts'
import { PawlError } from '../errors.ts'

/** A file of an image, read once for its digest and once to send it. */
export interface ImageFile {
  readonly role: ArtifactRole
  readonly path: string
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
}

const chunkBytes = 1024 * 1024

/** Reads a file for its digest, without holding it in memory. Throws `invalid`, `not-found` or `too-large`. */
export async function hashFile(
  role: ArtifactRole,
  path: string,
  onBytes: (bytes: number) => void,
): Promise<ImageFile> {
  const handle = await openFile(role, path)
  try {
    const hash = createHash('sha256')
    let size = 0
    for await (const chunk of handle.createReadStream({ autoClose: false, highWaterMark: chunkBytes })) {
      const bytes = chunk as Buffer // no encoding is set
      hash.update(bytes)
      size += bytes.length
      onBytes(bytes.length)
    }
    if (size === 0) throw new PawlError('invalid', `the ${role} ${path} is empty`)
    if (size > maxArtifactBytes) throw new PawlError('too-large', `the ${role} ${path} is larger than 64 GiB`)
    return { role, path, digest: parseDigest(hash.digest('hex')), size }
  } finally {
    await handle.close()
  }
}

/**
 * Opens a hashed file to send it from a byte on: exactly as many bytes as were hashed. One that has changed since has another
 * digest, which the server finds.
 */
export async function streamFile(file: ImageFile, offset: number): Promise<Readable> {
  const handle = await openFile(file.role, file.path)
  const { size } = await handle.stat()
  if (size < file.size) {
    await handle.close()
    throw becameShorter(file)
  }
  if (offset === file.size) {
    await handle.close()
    return Readable.from([]) // all is there already, and only waits to be stored
  }
  return handle.createReadStream({ start: offset, end: file.size - 1, highWaterMark: chunkBytes })
}

/** The error for a file that has fewer bytes than were hashed. */
export function becameShorter({ role, path }: ImageFile): PawlError {
  return new PawlError('invalid', `the ${role} ${path} became shorter while it was published`)
}

async function openFile(role: ArtifactRole, path: string): Promise<FileHandle> {
  try {
    const handle = await open(path, 'r')
    if ((await handle.stat()).isFile()) return handle
    await handle.close()
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
    if (code === 'ENOENT') throw new PawlError('not-found', `there is no ${role} ${path}`)
    throw new PawlError('invalid', `the ${role} ${path} cannot be read (${code})`)
  }
  throw new PawlError('invalid', `the ${role} ${path} is not a regular file`)
}
