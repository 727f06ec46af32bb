import type { TftpFile } from './files.ts'
import { encodePacket } from './packet.ts'

/** The DATA packets of one file at one block size, to be sent to anyone. */
export interface Packets {
  /** The packet of a block, counted from 1. It must not be written to. */
  at(block: number): Uint8Array
  /** Says that one who asked for them has all it wanted. */
  release(): void
}

/** Files cut into packets once for all who fetch them: sending one then copies and makes nothing. */
export interface PacketCache {
  packetsOf(file: TftpFile, blockSize: number): Packets
  /** The bytes it holds now. */
  readonly bytes: () => number
}

/** What a view of a buffer takes beside its bytes, about (measured: Node 24). */
const viewBytes = 120
/** Smaller blocks are asked for by nobody who has a use for them; their views would be larger than the file. */
const minBlockSize = 512

interface Entry {
  readonly bytes: number
  readonly views: readonly Uint8Array[]
  users: number
}

/** Opens a cache of at most `maxBytes`. What has no room in it is cut as it is sent: whoever asks for odd sizes takes no memory. */
export function openPacketCache(maxBytes: number): PacketCache {
  const entries = new Map<string, Entry>()
  const numbers = new WeakMap<TftpFile, number>()
  let files = 0
  let held = 0

  function numberOf(file: TftpFile): number {
    const known = numbers.get(file)
    if (known !== undefined) return known
    files += 1
    numbers.set(file, files)
    return files
  }

  function makeRoom(bytes: number): boolean {
    for (const [key, entry] of entries) {
      if (held + bytes <= maxBytes) break
      if (entry.users > 0) continue
      entries.delete(key)
      held -= entry.bytes
    }
    return held + bytes <= maxBytes
  }

  function packetsOf(file: TftpFile, blockSize: number): Packets {
    const key = `${numberOf(file)}/${blockSize}`
    let entry = entries.get(key)
    if (entry === undefined) {
      const count = Math.floor(file.bytes.length / blockSize) + 1
      const bytes = file.bytes.length + count * (4 + viewBytes)
      if (blockSize < minBlockSize || !makeRoom(bytes)) return cutAsSent(file.bytes, blockSize)
      entry = { bytes, views: cut(file.bytes, blockSize, count), users: 0 }
      held += bytes
    }
    // The one that was used last is the last to go.
    entries.delete(key)
    entries.set(key, entry)
    entry.users += 1
    return lend(entry)
  }

  return { packetsOf, bytes: () => held }
}

function lend(entry: Entry): Packets {
  let isLent = true
  return {
    at: (block) => entry.views[block - 1] ?? new Uint8Array(0), // the transfer counts to the last of them
    release: () => {
      if (isLent) entry.users -= 1
      isLent = false
    },
  }
}

function cut(bytes: Buffer, blockSize: number, count: number): Uint8Array[] {
  const all = Buffer.allocUnsafeSlow(bytes.length + 4 * count)
  return Array.from({ length: count }, (_, index) => {
    const begin = index * (blockSize + 4)
    all.writeUInt16BE(3, begin)
    all.writeUInt16BE((index + 1) & 0xffff, begin + 2)
    const copied = bytes.copy(all, begin + 4, index * blockSize, (index + 1) * blockSize)
    return all.subarray(begin, begin + 4 + copied)
  })
}

function cutAsSent(bytes: Buffer, blockSize: number): Packets {
  return {
    at: (block) =>
      encodePacket({
        kind: 'data',
        block: block & 0xffff,
        payload: bytes.subarray((block - 1) * blockSize, block * blockSize),
      }),
    release: () => {},
  }
}
