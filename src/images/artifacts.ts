/**
 * Artifacts in a local folder, named by their SHA-256:
 *
 *   FOLDER/sha256/<64 hex>    complete, verified, durable; never changed
 *   FOLDER/tmp/<pid>.<random> being written
 *
 * A file gets its name only by `rename`, after its digest was checked and its bytes were synced; then the folder is
 * synced. So a name that is there is right, whenever the power went. What a killed process left in tmp/ is removed when
 * the store is opened next.
 */
import { createHash, randomBytes } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import type { Digest } from '../domain/digest.ts'
import { PawlError } from '../errors.ts'

/** An artifact opened for reading. */
export interface OpenArtifact {
  readonly size: number
  /** Fills `into` from `position`; throws where the file ends before that. */
  read(into: Uint8Array, position: number): Promise<void>
  close(): Promise<void>
}

/** How an upload is limited. */
export interface PutOptions {
  readonly maxBytes: number
  /** The size that was announced, where one was. */
  readonly size?: number
}

/** Where artifacts are kept. */
export interface ArtifactStore {
  /** The size of an artifact that is there, in bytes. */
  has(digest: Digest): Promise<number | undefined>
  /** Stores a stream of bytes under its digest; resolves when it is durable, with its size. Nothing is left when it throws. */
  put(digest: Digest, bytes: AsyncIterable<Uint8Array>, options: PutOptions): Promise<number>
  /** Opens an artifact; throws `not-found`. */
  open(digest: Digest): Promise<OpenArtifact>
  /** Reads all of an artifact and checks its digest; throws `not-found`, `digest-mismatch`. Resolves with its size. */
  verify(digest: Digest): Promise<number>
}

/** The steps of `put`, in order; tests stop or kill the process at each. */
export const putSteps = ['created', 'written', 'checked', 'synced', 'renamed', 'folder-synced'] as const
export type PutStep = (typeof putSteps)[number]

/** What tests may set. */
export interface StoreOptions {
  /** Called behind each step (`written`: behind each chunk); what it throws fails the step. */
  readonly faults?: (step: PutStep) => void
}

const readBytes = 1 << 20

/** Temporary files this process is writing now: a second opening of the same folder must leave them alone. */
const inUse = new Set<string>()

/** Opens the store in `folder`, making it where it is not there, and removes what killed processes left behind. */
export async function openArtifactStore(folder: string, options: StoreOptions = {}): Promise<ArtifactStore> {
  const files = join(folder, 'sha256')
  const temporary = join(folder, 'tmp')
  for (const path of [files, temporary]) await mkdir(path, { recursive: true, mode: 0o750 })
  await syncFolder(folder)
  await syncFolder(dirname(folder))
  await removeLeftovers(temporary)
  const pathOf = (digest: Digest): string => join(files, digest)
  return {
    has: (digest) => sizeOf(pathOf(digest)),
    open: (digest) => openFile(pathOf(digest), digest),
    verify: async (digest) => {
      const artifact = await openFile(pathOf(digest), digest)
      try {
        return await checkDigest(artifact, digest)
      } finally {
        await artifact.close()
      }
    },
    put: async (digest, bytes, limits) => {
      const partial = join(temporary, `${process.pid}.${randomBytes(9).toString('base64url')}`)
      inUse.add(partial)
      try {
        const size = await writeChecked(partial, digest, bytes, limits, options.faults)
        // Over a file that is there already: it has the same bytes, or it went bad on the disk and is healed now.
        await rename(partial, pathOf(digest))
        options.faults?.('renamed')
        await syncFolder(files)
        options.faults?.('folder-synced')
        return size
      } catch (error) {
        throw asDiskFull(error, pathOf(digest))
      } finally {
        await rm(partial, { force: true })
        inUse.delete(partial)
      }
    },
  }
}

/** Writes the stream to a new file, checks it and syncs it. */
async function writeChecked(
  path: string,
  digest: Digest,
  bytes: AsyncIterable<Uint8Array>,
  limits: PutOptions,
  faults: StoreOptions['faults'],
): Promise<number> {
  const file = await open(path, 'wx', 0o640)
  try {
    faults?.('created')
    const hash = createHash('sha256')
    let size = 0
    for await (const chunk of untilItBreaks(bytes, digest)) {
      size += chunk.length
      if (size > limits.maxBytes) {
        throw new PawlError('too-large', `artifact ${digest} is larger than ${limits.maxBytes} bytes`)
      }
      hash.update(chunk)
      await file.writeFile(chunk) // on a handle: behind what was written before, however many writes it takes
      faults?.('written')
    }
    if (limits.size !== undefined && size !== limits.size) {
      throw new PawlError(
        'digest-mismatch',
        `artifact ${digest} has ${size} bytes, not the announced ${limits.size}`,
      )
    }
    refuseOther(hash.digest('hex'), digest)
    faults?.('checked')
    await file.sync()
    faults?.('synced')
    return size
  } finally {
    await file.close()
  }
}

/** The chunks of an upload. One that breaks off is the sender's fault, not the disk's, and says so. */
async function* untilItBreaks(bytes: AsyncIterable<Uint8Array>, digest: Digest): AsyncGenerator<Uint8Array> {
  // Leaving the loop early must not destroy an HTTP request: its socket carries the answer that says why.
  const chunks = bytes instanceof Readable ? bytes.iterator({ destroyOnReturn: false }) : bytes
  const iterator = (chunks as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]()
  try {
    for (;;) {
      const next = await iterator.next().catch((cause: unknown) => {
        throw new PawlError('invalid', `the upload of artifact ${digest} broke off`, { cause })
      })
      if (next.done === true) return
      yield next.value
    }
  } finally {
    await iterator.return?.()
  }
}

async function openFile(path: string, digest: Digest): Promise<OpenArtifact> {
  const file = await open(path, 'r').catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) throw new PawlError('not-found', `no artifact ${digest} is stored`)
    throw error
  })
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

async function checkDigest(artifact: OpenArtifact, digest: Digest): Promise<number> {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafeSlow(Math.min(readBytes, artifact.size))
  for (let position = 0; position < artifact.size; position += readBytes) {
    const part = buffer.subarray(0, Math.min(readBytes, artifact.size - position))
    await artifact.read(part, position)
    hash.update(part)
  }
  refuseOther(hash.digest('hex'), digest)
  return artifact.size
}

function refuseOther(actual: string, digest: Digest): void {
  if (actual === digest) return
  throw new PawlError(
    'digest-mismatch',
    `the bytes announced as artifact ${digest} have the digest ${actual}`,
  )
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/** A rename or a new file is durable only when its folder is (fsync(2)). */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/**
 * Removes what no living process writes. A process in another container may look dead here: its upload then fails at
 * `rename`, is answered with an error and sent again; nothing wrong becomes visible.
 */
async function removeLeftovers(temporary: string): Promise<void> {
  for (const name of await readdir(temporary)) {
    const path = join(temporary, name)
    const pid = Number(name.split('.')[0])
    // Our own number on a file that we do not write: a restarted container gives every process the same one.
    const alive = pid === process.pid ? inUse.has(path) : isAlive(pid)
    if (!alive) await rm(path, { force: true, recursive: true })
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return hasCode(error, 'EPERM')
  }
}

function asDiskFull(error: unknown, path: string): unknown {
  if (!hasCode(error, 'ENOSPC') && !hasCode(error, 'EDQUOT')) return error
  return new PawlError('disk-full', `no room on the disk for ${path}`, {
    hint: 'free space on that disk and send it again; what had arrived was removed',
    cause: error,
  })
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
