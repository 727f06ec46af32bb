import { groupName } from './suites.ts'

/** What a server answers to a hello, as far as it can be read: of TLS 1.3 no more than its first message. */
export interface ServerFlight {
  /** Nothing more is to come that could be read. */
  readonly complete: boolean
  readonly version?: number
  readonly suite?: number
  /** TLS 1.3: it wants a key share of another group first. */
  readonly retry?: true
  /** RFC 6066: the limit that it agrees to, in bytes. */
  readonly maxFragmentLength?: number
  /** DER, the leaf first. */
  readonly certificates?: readonly Buffer[]
  /** The curve, or `DHE 2048` by the size of its prime. */
  readonly group?: string
  /** It asks for a certificate of the client's. */
  readonly asksCertificate?: true
  /** A fatal alert's number. */
  readonly alert?: number
  /** The largest record's content, in bytes. */
  readonly largestRecord: number
  /** What came is no TLS. */
  readonly broken?: true
}

type Writable<T> = { -readonly [K in keyof T]: T[K] }

const handshake = 22
const alert = 21

/** Reads what a server has sent so far. Only our own probe reads it, and a server can send anything: nothing of it is trusted. */
export function readServerFlight(bytes: Buffer): ServerFlight {
  const flight: Writable<ServerFlight> = { complete: false, largestRecord: 0 }
  const messages: Buffer[] = []
  for (let at = 0; at + 5 <= bytes.length; ) {
    const [type, end] = [bytes[at], at + 5 + bytes.readUInt16BE(at + 3)]
    if ((type !== handshake && type !== alert) || bytes[at + 1] !== 3) {
      // Of TLS 1.3 the rest is encrypted.
      return type === 20 || type === 23
        ? readMessages(messages, flight)
        : { ...flight, complete: true, broken: true }
    }
    if (end > bytes.length) break
    const content = bytes.subarray(at + 5, end)
    flight.largestRecord = Math.max(flight.largestRecord, content.length)
    if (type === alert && content.length === 2)
      return { ...flight, complete: true, alert: content.readUInt8(1) }
    if (type === handshake) messages.push(content)
    at = end
  }
  return readMessages(messages, flight)
}

function readMessages(parts: readonly Buffer[], flight: Writable<ServerFlight>): ServerFlight {
  const all = Buffer.concat(parts)
  for (let at = 0; at + 4 <= all.length; ) {
    const end = at + 4 + all.readUIntBE(at + 1, 3)
    if (end > all.length) break
    try {
      readMessage(all.readUInt8(at), all.subarray(at + 4, end), flight)
    } catch {
      return { ...flight, complete: true, broken: true } // a length that does not fit
    }
    at = end
  }
  return flight
}

function readMessage(type: number, body: Buffer, flight: Writable<ServerFlight>): void {
  if (type === 2) readServerHello(body, flight)
  if (type === 11) flight.certificates = readCertificates(body)
  if (type === 12) flight.group = readGroup(body)
  if (type === 13) flight.asksCertificate = true
  if (type === 14) flight.complete = true
}

/** RFC 8446, 4.1.3: what a HelloRetryRequest has for its random. */
const retryRandom = 'cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c'

function readServerHello(body: Buffer, flight: Writable<ServerFlight>): void {
  flight.version = body.readUInt16BE(0)
  if (body.toString('hex', 2, 34) === retryRandom) flight.retry = true
  const suite = 35 + body.readUInt8(34)
  flight.suite = body.readUInt16BE(suite)
  for (let at = suite + 5; at + 4 <= body.length; ) {
    const [kind, size] = [body.readUInt16BE(at), body.readUInt16BE(at + 2)]
    if (kind === 43 && size === 2) flight.version = body.readUInt16BE(at + 4)
    if (kind === 1 && size === 1) flight.maxFragmentLength = 2 ** (8 + body.readUInt8(at + 4))
    at += 4 + size
  }
  if (flight.version >= 0x0304) flight.complete = true
}

function readCertificates(body: Buffer): Buffer[] {
  const found: Buffer[] = []
  for (let at = 3; at + 3 <= body.length && found.length < 20; ) {
    const end = at + 3 + body.readUIntBE(at, 3)
    if (end > body.length) throw new RangeError('a certificate is cut off')
    found.push(body.subarray(at + 3, end))
    at = end
  }
  return found
}

/** ServerKeyExchange: a named curve (RFC 8422, 5.4), or a prime first (RFC 5246, 7.4.3). */
function readGroup(body: Buffer): string {
  if (body[0] === 3 && body.length > 3 && body.readUInt16BE(1) < 0x200) return groupName(body.readUInt16BE(1))
  return `DHE ${body.readUInt16BE(0) * 8}`
}

const alerts: Readonly<Record<number, string>> = {
  10: 'unexpected message',
  40: 'handshake failure',
  47: 'illegal parameter',
  50: 'decode error',
  70: 'protocol version',
  71: 'insufficient security',
  80: 'internal error',
  109: 'missing extension',
  112: 'unrecognized name',
  116: 'certificate required',
  120: 'no application protocol',
}

/** `handshake failure`. */
export function alertName(code: number): string {
  return alerts[code] ?? `alert ${code}`
}
