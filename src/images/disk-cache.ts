/**
 * Artifacts of an object storage, kept on the server's own disk as far as they fit: FOLDER/<64 hex>. What machines fetch from here is
 * fetched from there once, whole, and read from the disk as it arrives. A file gets its name when its digest was checked and it is
 * synced, so a name that is there is right. Several processes may share the folder: each fetches at most once, and the last
 * to be done takes the name.
 */
import { createHash, randomBytes } from 'node:crypto'
import { type FileHandle, lstat, mkdir, open, readdir, rename, rm, statfs, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../domain/clock.ts'
import type { Digest } from '../domain/digest.ts'
import type { CacheAnswer } from '../domain/meters.ts'
import type { ArtifactShelf, OpenArtifact } from './artifacts.ts'
import { hasCode, refuseOtherDigest } from './bytes.ts'
import { openLocalShelf } from './local-store.ts'

/** What `diskCached` takes. */
export interface DiskCacheOptions {
  /** For all files together, those being fetched included. */
  readonly maxBytes: number
  readonly clock: Clock
  /** What stays free on the disk. */
  readonly reserveBytes: number
  /** Takes what went wrong: then the object storage is read. */
  readonly onFault: (error: unknown) => void
  /** Told of each artifact what the disk had. */
  readonly asked?: (answer: CacheAnswer) => void
}

type Readable = Pick<ArtifactShelf, 'open'>

const stepBytes = 2 ** 20
/** Who reads further ahead of what has arrived asks the object storage itself. */
const aheadBytes = 16 * 2 ** 20
const fetchesAtOnce = 8
/** A fetch of a process that has ended: a storage that is silent for three tries of a minute fails (`s3-client.ts`). */
const leftBehindMilliseconds = 600_000

/** Puts a folder before a shelf. What is asked of the cache alone is `open`: all else goes to the shelf. */
export async function diskCached<Shelf extends Readable>(
  shelf: Shelf,
  folder: string,
  options: DiskCacheOptions,
): Promise<Shelf> {
  await mkdir(folder, { recursive: true, mode: 0o750 })
  const local = await openLocalShelf(folder, undefined)
  const fetches = new Map<Digest, Fetch>()
  const place: Place = { ...options, folder, entering: Promise.resolve() }

  async function openCached(digest: Digest): Promise<OpenArtifact> {
    const known = fetches.get(digest)
    if (known !== undefined) return found(openFetch(known))
    const file = await local.open(digest).catch(() => undefined)
    if (file === undefined) return fetchIt(digest)
    found(file)
    // When it was used last, for `makeRoom`. Nobody waits for it, and a file that went meanwhile is still open.
    const now = options.clock()
    utimes(join(folder, digest), now, now).catch(() => undefined)
    return file
  }

  /** One that is on its way already is fetched once for all. */
  function found(file: OpenArtifact): OpenArtifact {
    options.asked?.('hit')
    return file
  }

  async function fetchIt(digest: Digest): Promise<OpenArtifact> {
    const remote = await shelf.open(digest)
    const known = fetches.get(digest) // begun while the storage was asked
    if (known !== undefined) {
      await remote.close()
      return found(openFetch(known))
    }
    options.asked?.(fetches.size >= fetchesAtOnce ? 'passed' : 'miss')
    if (fetches.size >= fetchesAtOnce) return remote
    const fetch = beginFetch(remote)
    fetches.set(digest, fetch)
    runFetch(fetch, digest, place)
      .catch((error: unknown) => options.onFault(error))
      .finally(() => {
        fetches.delete(digest)
        fetch.end()
      })
    return openFetch(fetch)
  }

  return { ...shelf, open: openCached }
}

/** An artifact on its way from the storage to the disk, and who reads it meanwhile. */
interface Fetch {
  readonly remote: OpenArtifact
  file: FileHandle | undefined
  arrived: number
  over: boolean
  readers: number
  waiting: (() => void)[]
  wake(): void
  end(): void
}

function beginFetch(remote: OpenArtifact): Fetch {
  const fetch: Fetch = {
    remote,
    file: undefined,
    arrived: 0,
    over: false,
    readers: 0,
    waiting: [],
    wake() {
      const all = fetch.waiting
      fetch.waiting = []
      for (const go of all) go()
    },
    end() {
      fetch.over = true
      fetch.wake()
      if (fetch.readers === 0) closeFetch(fetch)
    },
  }
  return fetch
}

function closeFetch({ file, remote }: Fetch): void {
  file?.close().catch(() => undefined) // nothing is written any more
  remote.close().catch(() => undefined)
}

function openFetch(fetch: Fetch): OpenArtifact {
  fetch.readers += 1
  return {
    size: fetch.remote.size,
    read: (into, position) => readFetch(fetch, into, position),
    close: async () => {
      fetch.readers -= 1
      if (fetch.over && fetch.readers === 0) closeFetch(fetch)
    },
  }
}

async function readFetch(fetch: Fetch, into: Uint8Array, position: number): Promise<void> {
  const end = position + into.length
  while (!fetch.over && end > fetch.arrived && end - fetch.arrived <= aheadBytes)
    await new Promise<void>((go) => fetch.waiting.push(go))
  if (fetch.file === undefined || end > fetch.arrived) return fetch.remote.read(into, position)
  for (let filled = 0; filled < into.length; ) {
    const { bytesRead } = await fetch.file.read(into, filled, into.length - filled, position + filled)
    if (bytesRead === 0) throw new Error('a file of the disk cache was cut')
    filled += bytesRead
  }
}

interface Place extends DiskCacheOptions {
  readonly folder: string
  /** Fetches get their room one behind the other: who looks sees what the one before will take. */
  entering: Promise<unknown>
}

async function runFetch(fetch: Fetch, digest: Digest, place: Place): Promise<void> {
  const { size } = fetch.remote
  const path = join(place.folder, `fetch-${randomBytes(9).toString('hex')}`)
  try {
    const entered = place.entering.then(() => enter(place, path, size))
    place.entering = entered.catch(() => undefined)
    fetch.file = await entered
    if (fetch.file === undefined) return
    const hash = createHash('sha256')
    const buffer = Buffer.allocUnsafe(Math.min(stepBytes, size))
    while (fetch.arrived < size) {
      const bytes = buffer.subarray(0, Math.min(stepBytes, size - fetch.arrived))
      await fetch.remote.read(bytes, fetch.arrived)
      hash.update(bytes)
      await writeAll(fetch.file, bytes, fetch.arrived)
      fetch.arrived += bytes.length
      fetch.wake()
    }
    refuseOtherDigest(hash.digest('hex'), digest)
    await fetch.file.sync()
    await rename(path, join(place.folder, digest))
  } catch (error) {
    await rm(path, { force: true })
    throw error
  }
}

/**
 * Opens the file of a fetch, as large as it will be; undefined where there is no room for it. Looked at again when the file is there: another
 * process may have looked at the same time, and now each sees what the other takes.
 */
async function enter(place: Place, path: string, size: number): Promise<FileHandle | undefined> {
  if (!(await makeRoom(place, size))) return undefined
  const file = await open(path, 'wx+', 0o640)
  try {
    await file.truncate(size)
    if (await makeRoom(place, 0)) return file
  } catch (error) {
    await file.close()
    throw error
  }
  await file.close()
  await rm(path, { force: true })
  return undefined
}

/** A disk that is nearly full takes a part of a write, and says so by a number only. */
async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}

/** Removes what was not used for longest until `size` more bytes fit beside those that are there; answers whether they do. */
async function makeRoom({ folder, maxBytes, reserveBytes, clock }: Place, size: number): Promise<boolean> {
  if (size > maxBytes) return false
  const files = await filesOf(folder)
  const now = clock().getTime()
  let bytes = files.reduce((sum, file) => sum + file.size, 0)
  const { bavail, bsize } = await statfs(folder)
  let free = bavail * bsize - reserveBytes - files.reduce((sum, file) => sum + file.toCome, 0)
  const idle = files.filter(
    ({ name, usedAt }) => !name.startsWith('fetch-') || now - usedAt > leftBehindMilliseconds,
  )
  for (const oldest of idle.sort((a, b) => a.usedAt - b.usedAt)) {
    if (bytes + size <= maxBytes && size <= free) break
    await rm(join(folder, oldest.name), { force: true })
    bytes -= oldest.size
    free += oldest.size // of one left behind: what it has, and what was kept for it
  }
  return bytes + size <= maxBytes && size <= free
}

interface CachedFile {
  readonly name: string
  readonly size: number
  readonly toCome: number
  readonly usedAt: number
}

/** Of a folder that others change meanwhile: a fetch that has taken its name since it was listed is listed again by that name. */
async function filesOf(folder: string): Promise<readonly CachedFile[]> {
  const files = await Promise.all((await readdir(folder)).map((name) => fileOf(folder, name)))
  return files.every((file) => file !== undefined) ? files : filesOf(folder)
}

/** One that is gone is undefined. */
async function fileOf(folder: string, name: string): Promise<CachedFile | undefined> {
  try {
    const { size, blocks, mtimeMs } = await lstat(join(folder, name))
    const toCome = name.startsWith('fetch-') ? Math.max(0, size - blocks * 512) : 0
    return { name, size, toCome, usedAt: mtimeMs }
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}
