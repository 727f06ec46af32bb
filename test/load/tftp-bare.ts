import { createSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'

/**
 * The least that a TFTP server on node:dgram can be: one socket, no options but the block size, no timers, no limits, nothing
 * is checked. What it costs a packet is what node:dgram costs: no server in Node is below it. Not to be used for anything.
 */
const [file = '', port = ''] = process.argv.slice(2)
const bytes = readFileSync(file)
const transfers = new Map<number, Map<string, number>>()
const packets = new Map<number, Buffer[]>()
const socket = createSocket({ type: 'udp4', lookup: (name, _options, callback) => callback(null, name, 4) })

socket.on('message', (packet, from) => {
  if (packet[1] === 4) {
    const blockSize = transfers.get(from.port)?.get(from.address) ?? 512
    const data = packets.get(blockSize)?.[(packet[2] ?? 0) * 256 + (packet[3] ?? 0)]
    if (data !== undefined) socket.send(data, from.port, from.address)
    return
  }
  if (packet[1] !== 1) return
  const blockSize = Number(/\0blksize\0(\d+)\0/.exec(packet.toString('latin1'))?.[1] ?? 512)
  if (!packets.has(blockSize)) packets.set(blockSize, cut(blockSize))
  const ofPort = transfers.get(from.port) ?? new Map<string, number>()
  transfers.set(from.port, ofPort.set(from.address, blockSize))
  socket.send(Buffer.from(`\0\x06blksize\0${blockSize}\0`), from.port, from.address)
})

/** The packet that answers each ACK. */
function cut(blockSize: number): Buffer[] {
  return Array.from({ length: Math.floor(bytes.length / blockSize) + 1 }, (_, block) => {
    const head = Buffer.from([0, 3, ((block + 1) >> 8) & 255, (block + 1) & 255])
    return Buffer.concat([head, bytes.subarray(block * blockSize, (block + 1) * blockSize)])
  })
}

socket.bind(Number(port), '127.0.0.1', () => {
  socket.setRecvBufferSize(4 * 2 ** 20)
  socket.setSendBufferSize(4 * 2 ** 20)
  process.stdout.write('ready\n')
})
process.once('SIGTERM', () => process.exit(0))
