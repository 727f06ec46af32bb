import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'

/** Counts the TLS records of one direction: their sizes stand in clear in front of each (RFC 8446, section 5.1). */
export interface RecordCounter {
  /** Takes the next bytes of the stream. */
  take(bytes: Buffer): void
  /** The bytes of the largest record that holds application data, without its header. */
  readonly largest: () => number
  /** How many such records there were. */
  readonly count: () => number
}

const headerBytes = 5
const applicationData = 23

/** Opens one. */
export function countRecords(): RecordCounter {
  let header = Buffer.alloc(0)
  let left = 0
  let largest = 0
  let count = 0

  function begin(whole: Buffer): void {
    left = whole.readUInt16BE(3)
    if (whole[0] !== applicationData) return
    count += 1
    largest = Math.max(largest, left)
  }

  return {
    largest: () => largest,
    count: () => count,
    take: (bytes) => {
      let at = 0
      while (at < bytes.length) {
        if (left > 0) {
          const skipped = Math.min(left, bytes.length - at)
          left -= skipped
          at += skipped
          continue
        }
        const part = bytes.subarray(at, at + headerBytes - header.length)
        header = Buffer.concat([header, part])
        at += part.length
        if (header.length < headerBytes) continue
        begin(header)
        header = Buffer.alloc(0)
      }
    },
  }
}

/** A port in front of a server that passes everything on, and counts the records that the server sends. */
export async function openRecordRelay(
  port: number,
): Promise<{ port: number; counter: RecordCounter; close(): void }> {
  const counter = countRecords()
  const relay = createServer((client) => {
    const server = connect({ host: '127.0.0.1', port })
    server.on('data', (bytes: Buffer) => counter.take(bytes))
    client.pipe(server).pipe(client)
    client.on('error', () => server.destroy())
    server.on('error', () => client.destroy())
  }).listen(0, '127.0.0.1')
  await once(relay, 'listening')
  return { port: (relay.address() as AddressInfo).port, counter, close: () => relay.close() }
}
