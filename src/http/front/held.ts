import { type Entry, nothing } from './pending-connection.ts'

/** The bytes that connections have said before TLS gets them, all together. */
export interface Held {
  /** Copies a chunk behind what is there: many small chunks cost no more than their bytes. */
  keep(entry: Entry, chunk: Buffer): Buffer
  /** Has these bytes instead, without a copy where nothing is held yet. */
  hold(entry: Entry, bytes: Buffer): void
  release(entry: Entry): void
  readonly bytes: () => number
}

/** Nothing held yet. */
export function openHeld(): Held {
  let total = 0
  return {
    keep(entry, chunk) {
      const length = entry.length + chunk.length
      if (length > entry.held.length) {
        const room = Buffer.allocUnsafeSlow(Math.max(512, 2 * length))
        entry.held.copy(room, 0, 0, entry.length)
        total += room.length - entry.held.length
        entry.held = room
      }
      chunk.copy(entry.held, entry.length)
      entry.length = length
      return entry.held.subarray(0, length)
    },
    hold(entry, bytes) {
      total += bytes.length - entry.held.length
      entry.held = bytes
      entry.length = bytes.length
    },
    release(entry) {
      total -= entry.held.length
      entry.held = nothing
      entry.length = 0
      entry.need = 1
    },
    bytes: () => total,
  }
}
