/** What receiving, keeping and reading artifacts have in common. */
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { Readable } from 'node:stream'
import type { Digest } from '../domain/digest.ts'
import { PawlError } from '../errors.ts'

/**
 * The chunks of an upload. One that breaks off is its sender's fault, not the disk's: then `brokeOff` says what is thrown.
 * Leaving the loop early does not destroy an HTTP request: its socket carries the answer that says why.
 */
export async function* untilItBreaks(
  bytes: AsyncIterable<Uint8Array>,
  brokeOff: (cause: unknown) => Error,
): AsyncGenerator<Uint8Array> {
  const chunks = bytes instanceof Readable ? bytes.iterator({ destroyOnReturn: false }) : bytes
  const iterator = (chunks as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]()
  try {
    for (;;) {
      const next = await iterator.next().catch((cause: unknown) => {
        throw brokeOff(cause)
      })
      if (next.done === true) return
      yield next.value
    }
  } finally {
    await iterator.return?.()
  }
}

/** Hashes a stream of bytes; throws `digest-mismatch`. Resolves with its size. */
export async function checkDigest(bytes: AsyncIterable<Uint8Array>, digest: Digest): Promise<number> {
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of bytes) {
    hash.update(chunk)
    size += chunk.length
  }
  refuseOtherDigest(hash.digest('hex'), digest)
  return size
}

/** Throws `digest-mismatch` where the bytes had another digest. */
export function refuseOtherDigest(actual: string, digest: Digest): void {
  if (actual === digest) return
  throw new PawlError(
    'digest-mismatch',
    `the bytes announced as artifact ${digest} have the digest ${actual}`,
  )
}

/** The error for an artifact that is not there. */
export function notStored(digest: string): PawlError {
  return new PawlError('not-found', `no artifact ${digest} is stored`)
}

/** A rename or a new file is durable only when its folder is (fsync(2)). */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** Whether an error of the system has this code. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
