import { createSocket } from 'node:dgram'
import { once } from 'node:events'

/**
 * A DHCPv6 client as far as a test needs one: `solicit.ts INTERFACE ARCHITECTURE [USER-CLASS]` sends SOLICIT (RFC 8415) and prints
 * the options of the ADVERTISE that comes, hex by number, as JSON. Debian's busybox has none.
 */
const [, , device = '', architecture = '0', userClass] = process.argv

const option = (code: number, ...data: Buffer[]): Buffer => {
  const head = Buffer.alloc(4)
  const body = Buffer.concat(data)
  head.writeUInt16BE(code, 0)
  head.writeUInt16BE(body.length, 2)
  return Buffer.concat([head, body])
}

const words = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(2 * values.length)
  for (const [i, value] of values.entries()) bytes.writeUInt16BE(value, 2 * i)
  return bytes
}

const solicit = Buffer.concat([
  Buffer.from([1, 0x50, 0x41, 0x57]),
  option(1, words(3, 1), Buffer.from('525400123456', 'hex')), // DUID-LL
  option(3, Buffer.from('12345678', 'hex'), Buffer.alloc(8)), // IA_NA
  option(6, words(16, 59)),
  option(8, words(0)),
  option(61, words(Number(architecture))),
  ...(userClass === undefined ? [] : [option(15, words(userClass.length), Buffer.from(userClass))]),
])

const socket = createSocket({ type: 'udp6', reuseAddr: true })
socket.bind(546, '::')
await once(socket, 'listening')
socket.setMulticastInterface(`::%${device}`)
const again = setInterval(() => socket.send(solicit, 547, `ff02::1:2%${device}`), 1000)
socket.send(solicit, 547, `ff02::1:2%${device}`)
const giveUp = setTimeout(() => {
  process.stderr.write('nobody advertised\n')
  process.exit(1)
}, 20_000)
const [answer] = (await once(socket, 'message')) as [Buffer]
clearInterval(again)
clearTimeout(giveUp)
socket.close()

const options: Record<string, string> = {}
for (let at = 4; at + 4 <= answer.length; ) {
  const length = answer.readUInt16BE(at + 2)
  options[answer.readUInt16BE(at)] = answer.toString('hex', at + 4, at + 4 + length)
  at += 4 + length
}
process.stdout.write(JSON.stringify(options))
