/**
 * Uploads on their way into the store, on the server's own disk. Each has a file, named by who sends it and by the digest
 * that it must have in the end:
 *
 *   FOLDER/<32 hex of the sender's name, hashed>.<64 hex of the digest>
 *
 * What arrived of an upload that broke off stays, and its sender goes on from there; a day after its last byte it is
 * removed. Two senders of one artifact have a file each and do not disturb each other. Only a file that is whole, right
 * and synced is handed on; whatever else is wrong with an upload, its file goes at once.
 */
import { createHash, type Hash, randomBytes } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Digest } from '../domain/digest.ts'
import { type ErrorCode, isPawlError, PawlError } from '../errors.ts'
import { hasCode, refuseOtherDigest, untilItBreaks } from './bytes.ts'
import { claimUpload, isUnderWay, type Upload } from './claims.ts'
import { makeRoom, type SpoolLimits, spoolDefaults } from './spool-room.ts'

/** How an upload is received. */
export interface PutOptions {
  /** The largest size that is taken, where it is smaller than the store's own limit. */
  readonly maxBytes?: number
  /** The size of the whole artifact, where it was announced. */
  readonly size?: number
  /** Whose upload it is. What arrived of one that breaks off is kept for this name; without a name nothing is kept. */
  readonly sender?: string
  /** Where these bytes begin: 0 begins anew, anything else must be what has arrived. */
  readonly offset?: number
}

/** The steps of an upload, in order; tests stop or kill the process at each. */
export const putSteps = ['created', 'written', 'checked', 'synced', 'renamed', 'folder-synced'] as const
export type PutStep = (typeof putSteps)[number]

/** What a spool is opened with. */
export interface SpoolOptions {
  /** Called behind each step (`written`: behind each chunk); what it throws fails the step. */
  readonly faults?: ((step: PutStep) => void) | undefined
  readonly limits?: Partial<SpoolLimits> | undefined
  /** Milliseconds of a clock that only runs forward, to see which upload stalls. */
  readonly now?: () => number
}

/** Takes over a whole and right file; it may move it. */
export type Take = (path: string, size: number) => Promise<void>

/** Uploads under way and broken off. */
export interface Spool {
  /** Bytes that arrived of a sender's upload and wait for the rest; 0 where there is none. */
  received(digest: Digest, sender: string): Promise<number>
  /**
   * Receives an upload or its next part. When it is whole and right, `take` gets the file. Resolves with the bytes that
   * arrived so far: fewer than the announced size where more is to come.
   */
  receive(digest: Digest, bytes: AsyncIterable<Uint8Array>, options: PutOptions, take: Take): Promise<number>
  /** Removes the uploads whose last byte came too long ago; resolves with how many. */
  removeExpired(now: Date): Promise<number>
}

const partialName = /^[0-9a-f]{32}\.[0-9a-f]{64}$/

/** Opens the spool in `folder`, making it where it is not there, and removes what is no upload to go on with. */
export async function openSpool(folder: string, options: SpoolOptions = {}): Promise<Spool> {
  const limits = { ...spoolDefaults, ...options.limits }
  const now = options.now ?? performance.now.bind(performance)
  await mkdir(folder, { recursive: true, mode: 0o750 })
  for (const name of await readdir(folder)) {
    const path = join(folder, name)
    if (!partialName.test(name) && !isUnderWay(path)) await rm(path, { force: true, recursive: true })
  }
  const pathOf = (digest: Digest, sender: string): string => join(folder, `${hashName(sender)}.${digest}`)

  return {
    received: (digest, sender) => sizeOf(pathOf(digest, sender)),

    async receive(digest, bytes, put, take) {
      const { sender } = put
      const path = sender === undefined ? join(folder, onceName()) : pathOf(digest, sender)
      const upload = await claimUpload(path, bytes, now)
      try {
        return await receiveClaimed(
          { digest, bytes, put, path, upload, limits, faults: options.faults },
          take,
        )
      } catch (error) {
        if (sender === undefined || !canGoOn(error) || (await sizeOf(path)) === 0)
          await rm(path, { force: true })
        throw asDiskFull(error, digest, path)
      } finally {
        upload.over()
      }
    },

    async removeExpired(at) {
      let removed = 0
      for (const name of await readdir(folder)) {
        const path = join(folder, name)
        const found = await stat(path).catch(() => undefined)
        if (found === undefined || isUnderWay(path)) continue
        if (at.getTime() - found.mtimeMs < limits.keepMilliseconds) continue
        await rm(path, { force: true })
        removed += 1
      }
      return removed
    },
  }
}

interface Receiving {
  readonly digest: Digest
  readonly bytes: AsyncIterable<Uint8Array>
  readonly put: PutOptions
  readonly path: string
  readonly upload: Upload
  readonly limits: SpoolLimits
  readonly faults: SpoolOptions['faults']
}

/** The upload as a list of steps; a failure at any is sorted out by `receive`. */
async function receiveClaimed(receiving: Receiving, take: Take): Promise<number> {
  const { put, path, digest, upload, limits } = receiving
  const offset = await checkOffset(receiving)
  if (offset === 0) await rm(path, { force: true })
  upload.expect(put.size, offset)
  await makeRoom(path, put.size, offset, limits)
  const file = await open(path, offset === 0 ? 'wx' : 'r+', 0o640)
  try {
    receiving.faults?.('created')
    const hash = createHash('sha256')
    await hashFirst(file, offset, hash)
    const size = await append(receiving, file, offset, hash)
    if (put.size !== undefined && size !== put.size) {
      if (put.sender !== undefined && size < put.size) return size
      throw new PawlError(
        'digest-mismatch',
        `artifact ${digest} has ${size} bytes, not the announced ${put.size}`,
      )
    }
    refuseOtherDigest(hash.digest('hex'), digest)
    receiving.faults?.('checked')
    await file.sync()
    receiving.faults?.('synced')
    await take(path, size)
    await rm(path, { force: true }) // where `take` made a copy
    return size
  } finally {
    await file.close()
  }
}

async function checkOffset({ put, path, digest, limits }: Receiving): Promise<number> {
  const { offset = 0, size } = put
  const maxBytes = Math.min(limits.artifactBytes, put.maxBytes ?? limits.artifactBytes)
  if (size !== undefined && size > maxBytes) throw tooLarge(digest, maxBytes)
  if (size !== undefined && offset > size)
    throw new PawlError('invalid', `an upload of ${size} bytes cannot go on at byte ${offset}`)
  const have = await sizeOf(path)
  if (offset === 0 || offset === have) return offset
  throw new PawlError('conflict', `the upload of artifact ${digest} has ${have} bytes, not ${offset}`, {
    hint: 'ask with HEAD where to go on (Upload-Offset)',
  })
}

/** Writes what comes behind what is there; resolves with how much there is. */
async function append(receiving: Receiving, file: FileHandle, offset: number, hash: Hash): Promise<number> {
  const { put, digest, limits, upload, faults } = receiving
  const maxBytes = Math.min(limits.artifactBytes, put.maxBytes ?? limits.artifactBytes)
  let size = offset
  for await (const chunk of untilItBreaks(receiving.bytes, upload.brokeOff(digest))) {
    if (size + chunk.length > maxBytes) throw tooLarge(digest, maxBytes)
    // Room was made for what was announced: more is not written first and refused then.
    if (put.size !== undefined && size + chunk.length > put.size)
      throw new PawlError(
        'digest-mismatch',
        `artifact ${digest} has more than the announced ${put.size} bytes`,
      )
    hash.update(chunk)
    await writeAll(file, chunk, size)
    size += chunk.length
    upload.arrived(size)
    faults?.('written')
  }
  return size
}

async function writeAll(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < chunk.length; ) {
    const { bytesWritten } = await file.write(chunk, written, chunk.length - written, position + written)
    written += bytesWritten
  }
}

/** Brings the hash to where the upload goes on: a process that has ended since took its state with it. */
async function hashFirst(file: FileHandle, bytes: number, hash: Hash): Promise<void> {
  const buffer = Buffer.allocUnsafe(Math.min(bytes, 2 ** 20))
  for (let position = 0; position < bytes; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, bytes - position), position)
    if (bytesRead === 0) throw new PawlError('internal', 'the file of this upload was cut while it was read')
    hash.update(buffer.subarray(0, bytesRead))
    position += bytesRead
  }
}

/** Errors behind which an upload can go on: its sender went away or asked wrongly, or there is no room for it just now. */
const goesOnAfter: ReadonlySet<ErrorCode> = new Set([
  'invalid',
  'conflict',
  'overloaded',
  'store-unavailable',
])

function canGoOn(error: unknown): boolean {
  return isPawlError(error) && goesOnAfter.has(error.code)
}

/** For an upload that nobody can go on with. */
function onceName(): string {
  return `once-${randomBytes(9).toString('hex')}`
}

/** A name of fixed length without anything that a path could trip over. */
function hashName(sender: string): string {
  return createHash('sha256').update(sender).digest('hex').slice(0, 32)
}

function tooLarge(digest: Digest, maxBytes: number): PawlError {
  return new PawlError('too-large', `artifact ${digest} is larger than ${maxBytes} bytes`)
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 0
    throw error
  }
}

function asDiskFull(error: unknown, digest: Digest, path: string): unknown {
  if (!hasCode(error, 'ENOSPC') && !hasCode(error, 'EDQUOT')) return error
  return new PawlError('disk-full', `no room on the server’s disk for artifact ${digest}`, {
    hint: 'free space on that disk and send it again; what had arrived was removed',
    internal: path,
    cause: error,
  })
}
