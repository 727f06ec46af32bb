/**
 * What downloads read from. Hot artifacts live in memory, one shared buffer each, and are sent as slices of it: two to four
 * times the bytes per CPU second of a stream per reader (docs/performance.md). Slices are filled when first asked for,
 * once for all who ask, so the first reader does not wait for a whole filesystem.
 *
 * The buffers never have more than `maxBytes` together, those being sent included: where the readers of today fill
 * it, the next artifact is read from its file.
 */
import type { Digest } from '../domain/digest.ts'
import type { CacheAnswer } from '../domain/meters.ts'
import type { ArtifactStore, OpenArtifact } from './artifacts.ts'

/** An artifact in use by one reader, until `release`. */
export interface ArtifactLease {
  readonly size: number
  /**
   * The bytes from `position` up to `end` or the slice's end, whichever is first. Not to be written to; good until the
   * next slice of this lease is asked for.
   */
  slice(position: number, end: number): Buffer | Promise<Buffer>
  /** Begins to read what will be asked for next, so that it is there when the last slice was sent. Never throws. */
  readAhead(position: number, end: number): void
  /** Whether the artifact has its place in memory: else each slice is memory of this lease's own, and one ahead as much again. */
  readonly inMemory: boolean
  /** Call it exactly once, when no slice is asked for any more. */
  release(): void
}

/**
 * Memory for large writes, of all readers together. A reader that was fast and stops keeps its last write for as long as its
 * connection stands: many of them must not each hold a megabyte.
 */
export interface WriteBudget {
  /** How large a write may be now: a sixteenth of what is left. */
  readonly most: () => number
  /** Takes bytes; call the returned function when they are free again. */
  take(bytes: number): () => void
}

/** What `openArtifactCache` takes. */
export interface CacheOptions {
  /** Memory for artifacts, in bytes. One larger than half of it is always read from its file. */
  readonly maxBytes?: number
  /** The largest slice, in bytes. */
  readonly sliceBytes?: number
  /** Memory for large writes, in bytes. */
  readonly writeBytes?: number
  /** Told of each lease what the cache had. */
  readonly asked?: (answer: CacheAnswer) => void
}

/** Artifacts for many readers at once. */
export interface ArtifactCache {
  /** What their large writes may take. */
  readonly writes: WriteBudget
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
const defaultWriteBytes = 32 * 2 ** 20

/** Makes a cache over a store. */
export function openArtifactCache(
  store: Pick<ArtifactStore, 'open'>,
  options: CacheOptions = {},
): ArtifactCache {
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
    const buffer = cached ? allocateForReading(file.size) : undefined
    const entry = { digest, file, buffer, slices: [], users: 0, filled: 0, fileClosed: undefined }
    bytes += buffer?.length ?? 0
    entries.set(digest, entry)
    return entry
  }

  /** The entry of a digest, opened once for all who ask for it at the same time, and counted as used before anything else runs. */
  async function useEntry(digest: Digest): Promise<Entry> {
    let answer: CacheAnswer = 'hit'
    for (;;) {
      const entry = entries.get(digest)
      // One read from its file for want of room gets its buffer as soon as there is some; its readers keep the file.
      if (entry !== undefined && (entry.buffer !== undefined || !makeRoom(entry.file.size))) {
        entry.users += 1
        options.asked?.(entry.buffer === undefined ? 'passed' : answer)
        entries.delete(digest)
        entries.set(digest, entry)
        return entry
      }
      if (entry?.users === 0) void forget(entry)
      entries.delete(digest)
      if (!opening.has(digest)) answer = 'miss'
      const pending = opening.get(digest) ?? openEntry(digest).finally(() => opening.delete(digest))
      opening.set(digest, pending)
      await pending // asked for again above: others may have used it and dropped it meanwhile
    }
  }

  return {
    bytes: () => bytes,
    writes: openWriteBudget(options.writeBytes ?? defaultWriteBytes),
    close: async () => {
      await Promise.all([...entries.values()].filter((entry) => entry.users === 0).map(forget))
    },
    acquire: async (digest) => {
      const entry = await useEntry(digest)
      const reader = openReader(entry.file)
      return {
        size: entry.file.size,
        slice: (position, end) => sliceOf(entry, sliceBytes, position, end, reader.read),
        readAhead: (position, end) => {
          if (entry.buffer === undefined) reader.ahead(position, stopOf(entry, sliceBytes, position, end))
          else void Promise.resolve(sliceOf(entry, sliceBytes, position, end, reader.read)).catch(ignored)
        },
        inMemory: entry.buffer !== undefined,
        release: () => {
          entry.users -= 1
          if (entry.users === 0 && entry.buffer === undefined) void forget(entry)
        },
      }
    },
  }
}

function openWriteBudget(maxBytes: number): WriteBudget {
  let left = maxBytes
  return {
    most: () => left / 16,
    take(bytes) {
      left -= bytes
      return () => {
        left += bytes
      }
    },
  }
}

/** Who asks for the bytes themselves is told what went wrong. */
function ignored(): void {}

function stopOf(entry: Entry, sliceBytes: number, position: number, end: number): number {
  return Math.min(end, (Math.floor(position / sliceBytes) + 1) * sliceBytes, entry.file.size)
}

function sliceOf(
  entry: Entry,
  sliceBytes: number,
  position: number,
  end: number,
  readAlone: Reader['read'],
): Buffer | Promise<Buffer> {
  const stop = stopOf(entry, sliceBytes, position, end)
  if (entry.buffer === undefined) return readAlone(position, stop)
  const index = Math.floor(position / sliceBytes)
  const start = index * sliceBytes
  const slice = entry.slices[index] ?? fill(entry, entry.buffer, index, sliceBytes)
  if (slice instanceof Promise) return slice.then((filled) => filled.subarray(position - start, stop - start))
  return slice.subarray(position - start, stop - start)
}

interface Reader {
  readonly read: (position: number, stop: number) => Promise<Buffer>
  readonly ahead: (position: number, stop: number) => void
}

interface Ahead {
  readonly position: number
  readonly stop: number
  readonly bytes: Promise<Buffer>
  readonly into: Buffer
}

/**
 * Reads for one reader into a buffer again and again, or two where it reads ahead: new memory for every read cost more than the
 * read. One that comes to ask for much less gets a small one, so that it does not keep, stalled, what it had when it was fast.
 */
function openReader(file: OpenArtifact): Reader {
  let current: Buffer = Buffer.alloc(0)
  let spare: Buffer = Buffer.alloc(0)
  let ahead: Ahead | undefined
  const fitting = (buffer: Buffer, length: number): Buffer =>
    buffer.length < length || buffer.length > 4 * length ? allocateForReading(length) : buffer
  const readInto = async (buffer: Buffer, position: number, stop: number): Promise<Buffer> => {
    const bytes = buffer.subarray(0, stop - position)
    await file.read(bytes, position)
    return bytes
  }
  return {
    async read(position, stop) {
      const before = ahead
      ahead = undefined
      if (before?.position === position && before.stop <= stop) {
        ;[current, spare] = [before.into, current]
        return before.bytes
      }
      await before?.bytes.catch(ignored) // it is being written to
      spare = Buffer.alloc(0)
      current = fitting(current, stop - position)
      return readInto(current, position, stop)
    },
    ahead(position, stop) {
      if (ahead !== undefined) return
      spare = fitting(spare, stop - position)
      ahead = { position, stop, into: spare, bytes: readInto(spare, position, stop) }
      ahead.bytes.catch(ignored)
    },
  }
}

/**
 * Memory of its own, not pooled with unrelated data. What the system gives for a large buffer begins 16 bytes behind a page,
 * and the kernel's copy to exactly there took 5 to 8 times as long on AMD Zen 4 as to anywhere else (measured, 1 MiB reads).
 */
function allocateForReading(length: number): Buffer {
  return Buffer.allocUnsafeSlow(length + besidePage).subarray(besidePage)
}

const besidePage = 2048

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
