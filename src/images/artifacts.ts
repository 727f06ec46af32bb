/**
 * Artifacts, by their SHA-256. They arrive in a spool on the server's own disk, where they are checked; only what is whole
 * and right goes on to the shelf where it is kept: a local folder, or an S3-compatible object store. So a name that is on
 * a shelf is right on both.
 *
 *   FOLDER/sha256/<64 hex>   the local shelf
 *   FOLDER/tmp/              the spool: one file system with the shelf, so that a rename is all it takes
 */
import { join } from 'node:path'
import type { Digest } from '../domain/digest.ts'
import { openLocalShelf } from './local-store.ts'
import { openSpool, type PutOptions, type Spool, type SpoolOptions } from './spool.ts'

export { type PutOptions, type PutStep, putSteps } from './spool.ts'

/** An artifact opened for reading. */
export interface OpenArtifact {
  readonly size: number
  /** Fills `into` from `position`; throws where the artifact ends before that. */
  read(into: Uint8Array, position: number): Promise<void>
  close(): Promise<void>
}

/** An artifact that is kept, as a listing tells it. */
export interface StoredArtifact {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  /** When it was stored last. */
  readonly modifiedAt: Date
}

/** Where artifacts are kept. What it cannot do just now it says with `store-unavailable`. */
export interface ArtifactShelf {
  /** The size of an artifact that is there, in bytes. */
  has(digest: Digest): Promise<number | undefined>
  /** Opens an artifact; throws `not-found`. */
  open(digest: Digest): Promise<OpenArtifact>
  /** Reads all of an artifact and checks its digest; throws `not-found`, `digest-mismatch`. Resolves with its size. */
  verify(digest: Digest): Promise<number>
  /** Takes over a file that is whole, right and synced: moves or copies it, and resolves when the artifact is durable. */
  take(digest: Digest, path: string, size: number): Promise<void>
  /** Removes an artifact, if it is there. Whether something needs it is for the caller to know. */
  remove(digest: Digest): Promise<void>
  /** All artifacts there are, in no order; one that comes or goes meanwhile may be in it or not. */
  list(): AsyncIterable<StoredArtifact>
  /** Removes what unfinished transfers to the shelf left behind, where its kind can leave something. */
  tidy?(now: Date): Promise<void>
  /** Left out where only we can read it. */
  readonly redirects?: ArtifactRedirects
}

/** Where artifacts can be had without us. */
export interface ArtifactRedirects {
  /** `https://HOST[:PORT]`: what every such URL begins with. */
  readonly origin: string
  /** The CA that its certificate leads to, PEM, where it is not ours. */
  readonly ca: string | undefined
  /** A URL that opens one artifact to whoever has it, for GET and a quarter of an hour: a secret until then. */
  urlOf(digest: Digest): Promise<string>
  /** Where such a URL opens to everyone, and is no secret: the same, known at once. */
  openUrlOf?(digest: Digest): string
}

/** Artifacts: kept ones, and those on their way. */
export interface ArtifactStore extends Omit<ArtifactShelf, 'take' | 'tidy'> {
  /**
   * Stores a stream of bytes under its digest; resolves with the bytes that arrived. As many as announced: it is durable
   * and visible. Fewer: its sender goes on later (`PutOptions.sender`). Nothing is visible when it throws.
   */
  put(digest: Digest, bytes: AsyncIterable<Uint8Array>, options: PutOptions): Promise<number>
  /** Bytes of a sender's upload that wait for the rest. */
  received(digest: Digest, sender: string): Promise<number>
  /** Removes uploads that nobody went on with. */
  tidy(now: Date): Promise<void>
}

/** Opens the store in a local folder, making it where it is not there. */
export async function openArtifactStore(folder: string, options: SpoolOptions = {}): Promise<ArtifactStore> {
  const shelf = await openLocalShelf(join(folder, 'sha256'), options.faults)
  return storeOver(shelf, await openSpool(join(folder, 'tmp'), options))
}

/** A store of a shelf and the spool before it. */
export function storeOver(shelf: ArtifactShelf, spool: Spool): ArtifactStore {
  return {
    ...(shelf.redirects === undefined ? {} : { redirects: shelf.redirects }),
    has: shelf.has,
    open: shelf.open,
    verify: shelf.verify,
    remove: shelf.remove,
    list: shelf.list,
    received: spool.received,
    put: (digest, bytes, options) =>
      spool.receive(digest, bytes, options, (path, size) => shelf.take(digest, path, size)),
    async tidy(now) {
      await spool.removeExpired(now)
      await shelf.tidy?.(now)
    },
  }
}
