import { createSocket } from 'node:dgram'
import { encodePacket, type Option, parsePacket } from '../../src/tftp/packet.ts'
import { seeded } from './seeded.ts'

/** What is fetched, and how. */
export interface Fetch {
  readonly port: number
  readonly host?: string
  readonly name: string
  readonly options?: readonly Option[]
  /** The address to ask from: a machine of its own. */
  readonly from?: string
  /** What the network does to a packet, either way; delivers it at once if left out. */
  readonly link?: (deliver: () => void) => void
  /** How long to wait before asking again. */
  readonly patience?: number
  /** Whether the bytes are kept; a load client counts them only. */
  readonly keep?: boolean
}

/** What came. */
export interface Fetched {
  readonly bytes: number
  readonly content: Buffer
  readonly oack: readonly Option[]
  /** How often something was asked for again. */
  readonly repeats: number
}

/** A TFTP client of RFC 1350, 2347, 2348 and 7440, for tests and load: rejects with the server's words. */
export function fetchTftp(fetch: Fetch): Promise<Fetched> {
  const { port, host = '127.0.0.1', name, options = [], link, patience = 1000, keep = true } = fetch
  const { promise, resolve, reject } = Promise.withResolvers<Fetched>()
  const family = host.includes(':') ? 6 : 4
  const socket = createSocket({
    type: family === 6 ? 'udp6' : 'udp4',
    lookup: (asked, _options, callback) => callback(null, asked, family),
  })
  const parts: Buffer[] = []
  let oack: readonly Option[] = []
  let blockSize = 512
  let windowSize = 1
  let server: number | undefined
  let got = 0
  let inWindow = 0
  let bytes = 0
  let repeats = 0
  let heardAt = performance.now()
  let askedFor = -1
  const request = encodePacket({ kind: 'read', name, mode: 'octet', options })
  const ack = Buffer.from([0, 4, 0, 0])

  function send(packet: Buffer, to: number): void {
    const copy = link === undefined ? packet : Buffer.from(packet)
    const deliver = (): void => {
      if (!isOver) socket.send(copy, to, host)
    }
    if (link === undefined) deliver()
    else link(deliver)
  }
  function acknowledge(): void {
    if (server === undefined) return
    ack.writeUInt16BE(got & 0xffff, 2)
    inWindow = 0
    send(ack, server)
  }
  let isOver = false
  function over(): void {
    isOver = true
    clearInterval(timer)
    socket.close()
  }
  const timer = setInterval(() => {
    if (performance.now() - heardAt < patience) return
    heardAt = performance.now()
    repeats += 1
    if (repeats > 100) {
      over()
      reject(new Error('no answer'))
    } else if (server === undefined) send(request, port)
    else acknowledge()
  }, patience / 4)

  function onBlock(block: number, payload: Uint8Array): void {
    if (block !== ((got + 1) & 0xffff)) {
      // A gap: on from what came last, said once (RFC 7440); the last that came is acknowledged again whenever it comes.
      if (askedFor !== got || block === (got & 0xffff)) acknowledge()
      askedFor = got
      return
    }
    got += 1
    inWindow += 1
    bytes += payload.length
    if (keep) parts.push(Buffer.from(payload))
    const isLast = payload.length < blockSize
    if (isLast || inWindow >= windowSize) acknowledge()
    if (!isLast) return
    const last = { bytes, content: Buffer.concat(parts), oack, repeats }
    // The last ACK is on its way when the socket is closed; through a bad network it is not waited for.
    over()
    resolve(last)
  }

  function receive(packet: Buffer, from: number): void {
    if (isOver || (server !== undefined && from !== server)) return
    heardAt = performance.now()
    const parsed = parsePacket(packet)
    if (parsed.kind === 'error') {
      over()
      reject(new Error(`${parsed.code} ${parsed.message}`))
    } else if (parsed.kind === 'oack' && got === 0) {
      server = from
      oack = parsed.options
      const granted = new Map(oack.map(([key, value]) => [key.toLowerCase(), Number(value)]))
      blockSize = granted.get('blksize') ?? 512
      windowSize = granted.get('windowsize') ?? 1
      acknowledge()
    } else if (parsed.kind === 'data') {
      server ??= from
      onBlock(parsed.block, parsed.payload)
    }
  }

  socket.on('error', (error) => {
    if (!isOver) over()
    reject(error)
  })
  socket.on('message', (packet, { port: from }) => {
    if (link === undefined) receive(packet, from)
    else link(() => receive(packet, from))
  })
  socket.bind(0, fetch.from, () => {
    try {
      socket.setRecvBufferSize(4 * 2 ** 20)
    } catch {
      // the default will do
    }
    send(request, port)
  })
  return promise
}

/** A network that loses, doubles and delays packets, the same in each run of one seed. */
export function badLink(
  seed: number,
  { drop, double, delay }: { drop: number; double: number; delay: number },
): (deliver: () => void) => void {
  const random = seeded(seed)
  return (deliver) => {
    const times = random() < drop ? 0 : random() < double ? 2 : 1
    for (let i = 0; i < times; i += 1) {
      if (random() < delay) setTimeout(deliver, 1 + random() * 10)
      else deliver()
    }
  }
}
