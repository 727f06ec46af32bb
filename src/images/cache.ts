/**
 * What downloads read from. Artifacts are in memory by the megabyte, each piece once for all its readers, and are sent as slices
 * of it: two to four times the bytes per CPU second of a stream per reader (docs/performance.md). A piece is read when it is
 * first asked for, once for all who ask, so the first reader does not wait for a whole filesystem.
 *
 * All pieces together never have more than `maxBytes`. Beyond it, the one that was not used for longest makes room, and its
 * memory is used again: machines that boot together share what they read, also of a file that is larger than that. Where all
 * of them are being sent, a reader reads for itself, little at a time.
 */
import type { Digest } from '../domain/digest.ts'
import type { CacheAnswer } from '../domain/meters.ts'
import type { ArtifactStore, OpenArtifact } from './artifacts.ts'

/** An artifact in use by one reader, until `release`. */
export interface ArtifactLease {
  readonly size: number
  /**
   * The bytes from `position` up to `end` or the piece's end, whichever is first; less where there is no room. Not to be written
   * to; good until the next slice of this lease is asked for.
   */
  slice(position: number, end: number): Buffer | Promise<Buffer>
  /** Begins to read what will be asked for next, so that it is there when the last slice was sent. Never throws. */
  readAhead(position: number): void
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
  /** Memory for artifacts, in bytes. */
  readonly maxBytes?: number
  /** The largest slice, in bytes. */
  readonly sliceBytes?: number
  /** Memory for large writes, in bytes. */
  readonly writeBytes?: number
  /** Told of each lease that was read from what the cache had. */
  readonly asked?: (answer: CacheAnswer) => void
}

/** Artifacts for many readers at once. */
export interface ArtifactCache {
  /** What their large writes may take. */
  readonly writes: WriteBudget
  /** Leases an artifact; throws `not-found`. */
  acquire(digest: Digest): Promise<ArtifactLease>
  /** Bytes of memory the pieces have now. */
  readonly bytes: () => number
  /** Forgets what no reader uses. */
  close(): Promise<void>
}

/** An artifact that has readers or pieces. */
interface Entry {
  readonly digest: Digest
  /** Known when it was opened first. */
  size: number | undefined
  /** Open while somebody reads, unless all of it was in memory when they came. */
  file: Promise<OpenArtifact> | undefined
  /** By number. */
  readonly pieces: Map<number, Piece>
  /** Leases, and pieces being filled. */
  users: number
}

interface Piece {
  readonly entry: Entry
  readonly index: number
  readonly bytes: Buffer
  /** Undefined when it is filled. */
  filling: Promise<void> | undefined
  /** Leases whose last slice it has; while it is filled, that too. */
  holders: number
}

const defaultMaxBytes = 512 * 2 ** 20
const defaultSliceBytes = 2 ** 20
const defaultWriteBytes = 32 * 2 ** 20
/** What a reader has of its own where there is no room. */
const aloneBytes = 2 ** 16

/** Makes a cache over a store. */
export function openArtifactCache(
  store: Pick<ArtifactStore, 'open'>,
  options: CacheOptions = {},
): ArtifactCache {
  const { maxBytes = defaultMaxBytes, sliceBytes = defaultSliceBytes } = options
  const entries = new Map<Digest, Entry>()
  /** Those that nobody sends, the least recently used first. */
  const idle = new Set<Piece>()
  let bytes = 0

  /** Memory for a piece, where the idle ones leave or make room for it. */
  function takeMemory(length: number): Buffer | undefined {
    if (length > maxBytes) return undefined
    while (bytes + length > maxBytes) {
      const [oldest] = idle
      if (oldest === undefined) return undefined
      drop(oldest)
      if (oldest.bytes.length !== length) continue
      bytes += length
      return oldest.bytes
    }
    bytes += length
    return allocateForReading(length)
  }

  function drop(piece: Piece): void {
    const { entry, index } = piece
    idle.delete(piece)
    entry.pieces.delete(index)
    bytes -= piece.bytes.length
    forgetUnused(entry)
  }

  function forgetUnused(entry: Entry): void {
    if (entry.users === 0 && entry.pieces.size === 0) entries.delete(entry.digest)
  }

  function hold(piece: Piece): void {
    piece.holders += 1
    idle.delete(piece)
  }

  function letGo(piece: Piece): void {
    piece.holders -= 1
    // One that could not be read is no piece any more.
    if (piece.holders === 0 && piece.entry.pieces.get(piece.index) === piece) idle.add(piece)
  }

  /** The file of an entry, opened once for all who read it now. Who comes after a failure tries again. */
  function fileOf(entry: Entry): Promise<OpenArtifact> {
    const file = entry.file ?? store.open(entry.digest)
    entry.file = file
    file.catch(() => {
      if (entry.file === file) entry.file = undefined
    })
    return file
  }

  /** Nothing was written through its file, so a failure to close loses nothing. */
  function leave(entry: Entry): void {
    entry.users -= 1
    if (entry.users > 0) return
    entry.file?.then((file) => file.close()).catch(ignored)
    entry.file = undefined
    forgetUnused(entry)
  }

  /** What is there of an artifact, or begins to be read; undefined where there is no room. */
  function pieceOf(entry: Entry, size: number, index: number): Piece | undefined {
    const known = entry.pieces.get(index)
    if (known !== undefined) return known
    const memory = takeMemory(Math.min(sliceBytes, size - index * sliceBytes))
    if (memory === undefined) return undefined
    const piece: Piece = { entry, index, bytes: memory, filling: undefined, holders: 0 }
    entry.pieces.set(index, piece)
    piece.filling = fill(piece)
    piece.filling.catch(ignored) // who asks for the bytes is told what went wrong
    return piece
  }

  async function fill(piece: Piece): Promise<void> {
    const { entry, index } = piece
    entry.users += 1
    hold(piece)
    try {
      const file = await fileOf(entry)
      await file.read(piece.bytes, index * sliceBytes)
      piece.filling = undefined
    } catch (error) {
      drop(piece)
      throw error
    } finally {
      letGo(piece)
      leave(entry)
    }
  }

  function lease(entry: Entry, size: number): ArtifactLease {
    let held: Piece | undefined
    let own: Buffer = Buffer.alloc(0)
    let answer: CacheAnswer | undefined
    const find = (index: number): Piece | undefined => {
      if (answer !== 'passed') answer = entry.pieces.has(index) ? (answer ?? 'hit') : 'miss'
      return pieceOf(entry, size, index)
    }
    const readAlone = async (position: number, stop: number): Promise<Buffer> => {
      if (own.length < stop - position) own = allocateForReading(stop - position)
      const slice = own.subarray(0, stop - position)
      await (await fileOf(entry)).read(slice, position)
      return slice
    }
    const free = (): void => {
      if (held !== undefined) letGo(held)
      held = undefined
    }
    return {
      size,
      slice(position, end) {
        free()
        const index = Math.floor(position / sliceBytes)
        const start = index * sliceBytes
        const stop = Math.min(end, start + sliceBytes, size)
        const piece = find(index)
        if (piece === undefined) {
          answer = 'passed'
          return readAlone(position, Math.min(stop, position + aloneBytes))
        }
        hold(piece)
        held = piece
        const slice = piece.bytes.subarray(position - start, stop - start)
        return piece.filling === undefined ? slice : piece.filling.then(() => slice)
      },
      readAhead(position) {
        if (position < size) find(Math.floor(position / sliceBytes))
      },
      release() {
        free()
        if (answer !== undefined) options.asked?.(answer)
        leave(entry)
      },
    }
  }

  return {
    bytes: () => bytes,
    writes: openWriteBudget(options.writeBytes ?? defaultWriteBytes),
    close: async () => {
      for (const piece of idle) drop(piece)
    },
    async acquire(digest) {
      const entry = entries.get(digest) ?? {
        digest,
        size: undefined,
        file: undefined,
        pieces: new Map(),
        users: 0,
      }
      entries.set(digest, entry)
      entry.users += 1
      try {
        // What can be opened now can be read to its end, whoever removes it meanwhile.
        const whole = entry.size !== undefined && entry.pieces.size === Math.ceil(entry.size / sliceBytes)
        entry.size = whole ? entry.size : (await fileOf(entry)).size
        return lease(entry, entry.size ?? 0)
      } catch (error) {
        leave(entry)
        throw error
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

function ignored(): void {}

/**
 * Memory of its own, not pooled with unrelated data. What the system gives for a large buffer begins 16 bytes behind a page,
 * and the kernel's copy to exactly there took 5 to 8 times as long on AMD Zen 4 as to anywhere else (measured, 1 MiB reads).
 */
function allocateForReading(length: number): Buffer {
  return Buffer.allocUnsafeSlow(length + besidePage).subarray(besidePage)
}

const besidePage = 2048
