/**
 * TFTP, read-only: files that boot firmware needs before it can speak HTTPS. From the bytes up:
 * - `packet.ts` reads and writes packets (RFC 1350, 2347), strictly: what parses is written back as the same bytes;
 * - `negotiate.ts` says what a request's options become (RFC 2348, 2349, 7440);
 * - `transfer.ts` is one read transfer as a state machine, without a socket or a clock;
 * - `blocks.ts` cuts files into packets once for all who ask, `files.ts` says which files there are;
 * - `limits.ts` says who may have how much: whoever asks may not be who it says;
 * - `server.ts` has the sockets.
 * Nothing here is secret, and nobody who asks is believed.
 */

/** One option of a request or OACK: name and value as they were written (names count in any case). */
export type Option = readonly [name: string, value: string]

/** One packet. Texts are printable ASCII; a request's `mode` is as it was written. */
export type Packet =
  | {
      readonly kind: 'read' | 'write'
      readonly name: string
      readonly mode: string
      readonly options: readonly Option[]
    }
  | { readonly kind: 'data'; readonly block: number; readonly payload: Uint8Array }
  | { readonly kind: 'ack'; readonly block: number }
  | { readonly kind: 'error'; readonly code: number; readonly message: string }
  | { readonly kind: 'oack'; readonly options: readonly Option[] }

/** What is wrong with a datagram, in words that may be sent back. */
export interface Malformed {
  readonly kind: 'malformed'
  readonly fault: string
}

const opcodes = { read: 1, write: 2, data: 3, ack: 4, error: 5, oack: 6 } as const

/** RFC 2347: a request is at most 512 octets. */
const maxRequestBytes = 512
/** What a file system's names are; the DHCP option that names the boot file has one octet of length. */
const maxNameBytes = 255

/** Reads a datagram; never throws. `payload` is a view of it, not a copy. */
export function parsePacket(bytes: Uint8Array): Packet | Malformed {
  if (bytes.length < 4) return malformed(`${bytes.length} bytes are no TFTP packet`)
  const opcode = wordAt(bytes, 0)
  switch (opcode) {
    case opcodes.ack:
      if (bytes.length !== 4) return malformed(`an ACK of ${bytes.length} bytes`)
      return { kind: 'ack', block: wordAt(bytes, 2) }
    case opcodes.data:
      return { kind: 'data', block: wordAt(bytes, 2), payload: bytes.subarray(4) }
    case opcodes.read:
      return parseRequest('read', bytes)
    case opcodes.write:
      return parseRequest('write', bytes)
    case opcodes.error:
      return parseError(bytes)
    case opcodes.oack:
      return parseOack(bytes)
    default:
      return malformed(`operation ${opcode} is not one of TFTP`)
  }
}

/** The block of a well-formed ACK, without making anything: most of what comes is one. -1 for every other datagram. */
export function ackedBlock(bytes: Uint8Array): number {
  return bytes.length === 4 && bytes[0] === 0 && bytes[1] === opcodes.ack ? wordAt(bytes, 2) : -1
}

/** Whether a datagram says that it is an ERROR, well-formed or not: one is never answered, and always ends a transfer. */
export function isError(bytes: Uint8Array): boolean {
  return bytes.length >= 2 && bytes[0] === 0 && bytes[1] === opcodes.error
}

/** Whether a datagram is for a transfer: DATA, ACK or OACK by its operation, well-formed or not. */
export function isOfTransfer(bytes: Uint8Array): boolean {
  const opcode = bytes.length < 2 ? 0 : wordAt(bytes, 0)
  return opcode === opcodes.data || opcode === opcodes.ack || opcode === opcodes.oack
}

/** Writes a packet: what `parsePacket` reads it from. Texts must be ASCII without NUL, as parsed ones are. */
export function encodePacket(packet: Packet): Buffer {
  switch (packet.kind) {
    case 'ack':
      return head(opcodes.ack, packet.block)
    case 'data':
      return Buffer.concat([head(opcodes.data, packet.block), packet.payload])
    case 'error':
      return Buffer.concat([head(opcodes.error, packet.code), texts([packet.message])])
    case 'oack':
      return Buffer.concat([word(opcodes.oack), texts(packet.options.flat())])
    default: {
      const { kind, name, mode, options } = packet
      return Buffer.concat([word(opcodes[kind]), texts([name, mode, ...options.flat()])])
    }
  }
}

function parseRequest(kind: 'read' | 'write', bytes: Uint8Array): Packet | Malformed {
  if (bytes.length > maxRequestBytes) return malformed(`a request of ${bytes.length} bytes, over 512`)
  const read = readTexts(bytes, 2)
  if (!Array.isArray(read)) return read
  const [name, mode, ...rest] = read
  if (name === undefined || mode === undefined) return malformed('a request without a mode')
  if (name === '') return malformed('a request without a file name')
  if (name.length > maxNameBytes)
    return malformed(`a file name of ${name.length} bytes, over ${maxNameBytes}`)
  if (mode === '') return malformed('a request with an empty mode')
  const options = pairs(rest)
  return Array.isArray(options) ? { kind, name, mode, options } : options
}

function parseError(bytes: Uint8Array): Packet | Malformed {
  const read = readTexts(bytes, 4)
  if (!Array.isArray(read)) return read
  const [message] = read
  if (message === undefined || read.length > 1) return malformed('an ERROR with more than a message')
  return { kind: 'error', code: wordAt(bytes, 2), message }
}

function parseOack(bytes: Uint8Array): Packet | Malformed {
  const read = readTexts(bytes, 2)
  if (!Array.isArray(read)) return read
  const options = pairs(read)
  return Array.isArray(options) ? { kind: 'oack', options } : options
}

/** The texts from `offset` to the end, each ended by a NUL; at least one. */
function readTexts(bytes: Uint8Array, offset: number): string[] | Malformed {
  const found: string[] = []
  let begin = offset
  for (let at = offset; at < bytes.length; at += 1) {
    const byte = bytes[at] ?? 0 // within the length
    if (byte === 0) {
      found.push(String.fromCharCode(...bytes.subarray(begin, at)))
      begin = at + 1
      // No packet with texts is longer than a datagram; those that others send may be.
      if (at - offset > 2 * maxRequestBytes) return malformed('texts that are too long')
    } else if (byte < 0x20 || byte > 0x7e) {
      return malformed('a byte that is not printable ASCII')
    } else if (at - begin > maxRequestBytes) {
      return malformed('a text that is too long')
    }
  }
  if (begin !== bytes.length || found.length === 0) return malformed('a text without its NUL')
  return found
}

function pairs(words: readonly string[]): Option[] | Malformed {
  if (words.length % 2 !== 0) return malformed('an option without a value')
  const options: Option[] = []
  for (let i = 0; i < words.length; i += 2) {
    const [name = '', value = ''] = words.slice(i, i + 2) // both are there: the count is even
    if (name === '') return malformed('an option without a name')
    options.push([name, value])
  }
  return options
}

function malformed(fault: string): Malformed {
  return { kind: 'malformed', fault }
}

function wordAt(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0) // the length is checked before
}

function word(value: number): Buffer {
  return Buffer.from([value >> 8, value & 255])
}

function head(opcode: number, value: number): Buffer {
  return Buffer.from([0, opcode, (value >> 8) & 255, value & 255])
}

function texts(all: readonly string[]): Buffer {
  return Buffer.from(all.map((text) => `${text}\0`).join(''), 'latin1')
}
