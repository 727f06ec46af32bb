import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { open } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { type Pack, pack } from 'tar-stream'
import { PawlError } from '../errors.ts'
import type { Member } from './format.ts'

/** Writes a tar, and remembers what is in it. */
export interface TarWriter {
  /** Every member so far. */
  readonly members: readonly Member[]
  readonly bytes: () => number
  add(name: string, body: Uint8Array): Promise<void>
  /** Adds a file by its path; resolves with the SHA-256 of what was read. Throws where it ends early. */
  addFile(name: string, path: string): Promise<string>
  /** Resolves when all has been taken, and the stream has ended. */
  end(): Promise<void>
}

const readBytes = 2 ** 20

/** Begins a tar on `to`. Every member is a file of mode 0600, of nobody, made at `now`. */
export function openWriter(to: Writable, now: Date, faults?: (member: string) => void): TarWriter {
  const tar: Pack = pack()
  const members: Member[] = []
  let bytes = 0
  // tar-stream is no stream of Node's: what it gives is handed on by hand, and waits while the reader is slow.
  const pumped = (async () => {
    for await (const data of tar as AsyncIterable<Uint8Array>) {
      bytes += data.length
      if (!to.write(data)) await once(to, 'drain')
    }
    to.end()
    await finished(to, { readable: false })
  })()
  pumped.catch(() => {}) // told by whoever waits for it
  // Ends only when it fails: what is under way must not wait for a reader that is gone.
  const failed = pumped.then(() => new Promise<never>(() => {}))
  failed.catch(() => {})
  const gone = once(to, 'close').then(() => Promise.reject(new Error('the output was closed')))
  gone.catch(() => {})

  async function addBytes(
    name: string,
    size: number,
    read: () => AsyncIterable<Uint8Array>,
  ): Promise<string> {
    const hash = createHash('sha256')
    let done = 0
    const taken = new Promise<void>((resolve, reject) => {
      const entry = tar.entry({ name, size, mode: 0o600, uid: 0, gid: 0, mtime: now }, (error) =>
        error ? reject(error) : resolve(),
      )
      const feed = async (): Promise<void> => {
        for await (const data of read()) {
          hash.update(data)
          done += data.length
          if (!entry.write(data)) await new Promise<void>((more) => entry.once('drain', () => more()))
        }
        if (done !== size)
          throw new PawlError('conflict', `${name} changed while it was read`, { hint: 'try again' })
        entry.end(null)
      }
      feed().catch(reject)
    })
    await Promise.race([taken, failed, gone])
    const sha256 = hash.digest('hex')
    members.push({ name, size, sha256 })
    faults?.(name)
    return sha256
  }

  return {
    members,
    bytes: () => bytes,
    async add(name, body) {
      await addBytes(name, body.length, async function* () {
        yield body
      })
    },
    async addFile(name, path) {
      const handle = await open(path, 'r')
      try {
        const { size } = await handle.stat()
        return await addBytes(name, size, () =>
          size === 0
            ? (async function* () {})()
            : handle.createReadStream({ autoClose: false, highWaterMark: readBytes, end: size - 1 }),
        )
      } finally {
        await handle.close()
      }
    },
    async end() {
      tar.finalize()
      await pumped
    },
  }
}
