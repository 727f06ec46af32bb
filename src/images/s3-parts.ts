/**
 * Reads of objects by parts. Readers of an artifact too large for the cache ask for 64 KiB at a time when they are slow: a
 * request for each would cost more than the bytes. So one part of 1 MiB is fetched for all of them that come by, and kept
 * while it is among the last ones used.
 */
import type { Digest } from '../domain/digest.ts'

/** Bytes of an artifact, from `start` up to and without `end`. */
export type FetchBytes = (digest: Digest, start: number, end: number) => AsyncIterable<Uint8Array>

/** Parts of artifacts that were read lately. */
export interface Parts {
  /** Fills `into` from `position`. */
  read(digest: Digest, size: number, into: Uint8Array, position: number): Promise<void>
}

const partBytes = 2 ** 20
/** 64 MiB: as many readers, each at another place, read without fetching anything twice. */
const maxParts = 64

/** Makes an empty set of parts. */
export function openParts(fetch: FetchBytes): Parts {
  /** The first is the least recently used. */
  const parts = new Map<string, Promise<Buffer>>()

  function partOf(digest: Digest, size: number, index: number): Promise<Buffer> {
    const key = `${digest}/${index}`
    const known = parts.get(key)
    parts.delete(key)
    const part =
      known ?? fetchInto(Buffer.allocUnsafeSlow(Math.min(partBytes, size - index * partBytes)), digest, index)
    parts.set(key, part)
    part.catch(() => parts.get(key) === part && parts.delete(key)) // the next reader tries again
    for (const oldest of parts.keys()) {
      if (parts.size <= maxParts) break
      parts.delete(oldest)
    }
    return part
  }

  async function fetchInto(into: Buffer, digest: Digest, index: number): Promise<Buffer> {
    await fill(into, fetch(digest, index * partBytes, index * partBytes + into.length))
    return into
  }

  return {
    async read(digest, size, into, position) {
      const end = position + into.length
      // A whole part goes where it is wanted: it is the cache that asks, and keeps it itself.
      if (into.length > 0 && position % partBytes === 0 && end === Math.min(position + partBytes, size)) {
        return fill(into, fetch(digest, position, end))
      }
      for (let at = position; at < end; ) {
        const index = Math.floor(at / partBytes)
        const part = await partOf(digest, size, index)
        const from = at - index * partBytes
        const bytes = part.subarray(from, Math.min(part.length, from + end - at))
        into.set(bytes, at - position)
        at += bytes.length
      }
    },
  }
}

async function fill(into: Uint8Array, bytes: AsyncIterable<Uint8Array>): Promise<void> {
  let at = 0
  for await (const chunk of bytes) {
    into.set(chunk, at) // throws where a store sends more than was asked for
    at += chunk.length
  }
}
