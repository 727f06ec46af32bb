/**
 * What downloads read from. Hot artifacts live in memory, one shared buffer each, and are sent as slices of it: two to four
 * times the bytes per CPU second of a stream per reader (docs/performance.md). Slices are filled when first asked for,
 * once for all who ask, so the first reader does not wait for a whole filesystem.
 *
 * The buffers never have more than `maxBytes` together, those being sent included: where the readers of today fill
 * it, the next artifact is read from its file.
 */
import type { Digest } from '../domain/digest.ts'
import type { ArtifactStore, OpenArtifact } from './artifacts.ts'

/** An artifact in use by one reader, until `release`. */
export interface ArtifactLease {
  readonly size: number
  /**
   * The bytes from `position` up to `end` or the slice's end, whichever is first. Not to be written to; good until the
   * next slice of this lease is asked for.
   */
  slice(position: number, end: number): Buffer | Promise<Buffer>
  /** Call it exactly once, when no slice is asked for any more. */
  release(): void
}

/** What `openArtifactCache` takes. */
export interface CacheOptions {
  /** Memory for artifacts, in bytes. One larger than half of it is always read from its file. */
  readonly maxBytes?: number
  /** The largest slice, in bytes. */
  readonly sliceBytes?: number
}

/** Artifacts for many readers at once. */
export interface ArtifactCache {
  /** Leases an artifact; throws `not-found`. */
  acquire(digest: Digest): Promise<ArtifactLease>
  /** Bytes of memory the buffers have now. */
  readonly bytes: () => number
  /** Forgets what no reader uses, and closes its files. */
  close(): Promise<void>
}

interface Entry {
  readonly digest: Digest
  readonly file: OpenArtifact
  /** Undefined where the artifact is read from its file each time. */
  readonly buffer: Buffer | undefined
  /** By number: a filled slice, one being filled, or nothing yet. */
  readonly slices: (Buffer | Promise<Buffer> | undefined)[]
  users: number
  /** Slices filled so far; the file is closed when it has all of them. */
  filled: number
  fileClosed: Promise<void> | undefined
}

const defaultMaxBytes = 512 * 2 ** 20
const defaultSliceBytes = 2 ** 20

/** Makes a cache over a store. */
export function openArtifactCache(store: ArtifactStore, options: CacheOptions = {}): ArtifactCache {
  const { maxBytes = defaultMaxBytes, sliceBytes = defaultSliceBytes } = options
  /** A Map keeps insertion order: an entry is put last when it is used, so the first is the least recently used. */
  const entries = new Map<Digest, Entry>()
  const opening = new Map<Digest, Promise<Entry>>()
  let bytes = 0

  /** Drops unused buffers, oldest first, until `size` more bytes fit; answers whether they do. */
  function makeRoom(size: number): boolean {
    if (size > maxBytes / 2) return false
    for (const entry of entries.values()) {
      if (bytes + size <= maxBytes) break
      if (entry.users === 0 && entry.buffer !== undefined) void forget(entry)
    }
    return bytes + size <= maxBytes
  }

  function forget(entry: Entry): Promise<void> {
    if (entries.get(entry.digest) === entry) entries.delete(entry.digest)
    bytes -= entry.buffer?.length ?? 0
    return closeFile(entry)
  }

  async function openEntry(digest: Digest): Promise<Entry> {
    const file = await store.open(digest)
    const cached = makeRoom(file.size)
    // A buffer of its own: a pooled one would share its memory with unrelated data.
    const buffer = cached ? Buffer.allocUnsafeSlow(file.size) : undefined
    const entry = { digest, file, buffer, slices: [], users: 0, filled: 0, fileClosed: undefined }
    bytes += buffer?.length ?? 0
    entries.set(digest, entry)
    return entry
  }

  /** The entry of a digest, opened once for all who ask for it at the same time, and counted as used before anything else runs. */
  async function useEntry(digest: Digest): Promise<Entry> {
    for (;;) {
      const entry = entries.get(digest)
      // One read from its file for want of room gets its buffer as soon as there is some; its readers keep the file.
      if (entry !== undefined && (entry.buffer !== undefined || !makeRoom(entry.file.size))) {
        entry.users += 1
        entries.delete(digest)
        entries.set(digest, entry)
        return entry
      }
      if (entry?.users === 0) void forget(entry)
      entries.delete(digest)
      const pending = opening.get(digest) ?? openEntry(digest).finally(() => opening.delete(digest))
      opening.set(digest, pending)
      await pending // asked for again above: others may have used it and dropped it meanwhile
    }
  }

  return {
    bytes: () => bytes,
    close: async () => {
      await Promise.all([...entries.values()].filter((entry) => entry.users === 0).map(forget))
    },
    acquire: async (digest) => {
      const entry = await useEntry(digest)
      const readAlone = openReader(entry.file)
      return {
        size: entry.file.size,
        slice: (position, end) => sliceOf(entry, sliceBytes, position, end, readAlone),
        release: () => {
          entry.users -= 1
          if (entry.users === 0 && entry.buffer === undefined) void forget(entry)
        },
      }
    },
  }
}

type Reader = (position: number, stop: number) => Promise<Buffer>

function sliceOf(
  entry: Entry,
  sliceBytes: number,
  position: number,
  end: number,
  readAlone: Reader,
): Buffer | Promise<Buffer> {
  const index = Math.floor(position / sliceBytes)
  const start = index * sliceBytes
  const stop = Math.min(end, start + sliceBytes, entry.file.size)
  if (entry.buffer === undefined) return readAlone(position, stop)
  const slice = entry.slices[index] ?? fill(entry, entry.buffer, index, sliceBytes)
  if (slice instanceof Promise) return slice.then((filled) => filled.subarray(position - start, stop - start))
  return slice.subarray(position - start, stop - start)
}

/** Reads for one reader into one buffer again and again: new memory for every read cost more than the read. */
function openReader(file: OpenArtifact): Reader {
  let buffer = Buffer.alloc(0)
  return async (position, stop) => {
    if (buffer.length < stop - position) buffer = Buffer.allocUnsafeSlow(stop - position)
    const bytes = buffer.subarray(0, stop - position)
    await file.read(bytes, position)
    return bytes
  }
}

/** Fills one slice for all who ask for it meanwhile. After a read error the next who asks tries again. */
function fill(entry: Entry, buffer: Buffer, index: number, sliceBytes: number): Promise<Buffer> {
  const slice = buffer.subarray(index * sliceBytes, (index + 1) * sliceBytes)
  const filling = entry.file.read(slice, index * sliceBytes).then(
    () => {
      entry.slices[index] = slice
      entry.filled += 1
      if (entry.filled === Math.ceil(buffer.length / sliceBytes)) void closeFile(entry)
      return slice
    },
    (error: unknown) => {
      entry.slices[index] = undefined
      throw error
    },
  )
  entry.slices[index] = filling
  return filling
}

/** Closes an entry's file once. Nothing was written through it, so a failure to close loses nothing. */
function closeFile(entry: Entry): Promise<void> {
  entry.fileClosed ??= entry.file.close().catch(() => undefined)
  return entry.fileClosed
}
