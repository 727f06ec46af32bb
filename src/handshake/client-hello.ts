/**
 * The first thing that a TLS client says (RFC 8446, 4.1.2; RFC 5246, 7.4.1.2), read strictly and without any I/O. Nothing here
 * decides about a connection: TLS itself does that, with OpenSSL. This only tells what the client offered, for when it fails.
 */

/** What a client offers, as numbers of IANA's tables, in its order. */
export interface ClientHello {
  /** What the hello's own field says; TLS 1.3 says 1.2 there. */
  readonly legacyVersion: number
  /** All that it speaks, the newest first: of the extension, or else what the field says. */
  readonly versions: readonly number[]
  readonly suites: readonly number[]
  /** The numbers of its extensions. */
  readonly extensions: readonly number[]
  readonly groups: readonly number[]
  readonly signatureAlgorithms: readonly number[]
  readonly alpn: readonly string[]
  /** The name that it asks for; undefined where it sends none, or one that is no host name. */
  readonly serverName: string | undefined
  /** RFC 6066, 4: the largest record that it wants, in bytes. */
  readonly maxFragmentLength: number | undefined
}

/** How far the bytes of a connection have come. */
export type HelloProgress =
  /** So many bytes in all are needed before it is worth looking again. */
  | { readonly state: 'more'; readonly need: number }
  /** The hello is here: the handshake message without its header, put together from its records. */
  | { readonly state: 'hello'; readonly message: Buffer }
  /** It is no ClientHello, or one that nobody sends. */
  | { readonly state: 'other' }

/** Longer than any hello with two post-quantum key shares. OpenSSL takes longer ones; they are just not looked at. */
export const maxHelloBytes = 16 * 1024

/** A client that cuts its hello has a reason: small records. Nobody cuts it into single bytes, but who wants to keep us busy. */
const maxRecords = 64
const recordHeader = 5
const handshakeRecord = 22
const clientHello = 1
const maxRecordBytes = 16 * 1024

/** Looks for a whole ClientHello at the beginning of a connection. It may be spread over several records. */
export function findHello(bytes: Buffer): HelloProgress {
  const whole = helloInOneRecord(bytes)
  if (whole !== undefined) return { state: 'hello', message: whole }
  const parts: Buffer[] = []
  const start: number[] = [] // type and length: the message's first four bytes, which may be spread too
  let [at, have] = [0, 0]
  while (parts.length < maxRecords) {
    // What is there of a record's header must look like one before any more is waited for.
    if (at < bytes.length && bytes[at] !== handshakeRecord) return { state: 'other' }
    if (at + 1 < bytes.length && bytes[at + 1] !== 3) return { state: 'other' }
    if (bytes.length < at + recordHeader) return more(at + recordHeader)
    const size = bytes.readUInt16BE(at + 3)
    if (size === 0 || size > maxRecordBytes) return { state: 'other' }
    const end = at + recordHeader + size
    const part = bytes.subarray(at + recordHeader, end)
    parts.push(part)
    have += part.length
    start.push(...part.subarray(0, 4 - start.length))
    const [type, high = 0, middle = 0, low = 0] = start
    if (type !== undefined && type !== clientHello) return { state: 'other' }
    const length = 4 + ((high << 16) | (middle << 8) | low)
    if (start.length === 4 && length > maxHelloBytes) return { state: 'other' }
    if (start.length === 4 && have >= length) {
      return { state: 'hello', message: Buffer.concat(parts).subarray(4, length) }
    }
    if (bytes.length < end) return more(end)
    at = end
  }
  return { state: 'other' }
}

/** The hello of nearly every client: in one record, and all of it here. It is not copied. */
function helloInOneRecord(bytes: Buffer): Buffer | undefined {
  if (bytes.length < recordHeader + 4 || bytes[0] !== handshakeRecord || bytes[1] !== 3) return undefined
  if (bytes[recordHeader] !== clientHello) return undefined
  const size = bytes.readUInt16BE(3)
  const length = 4 + bytes.readUIntBE(recordHeader + 1, 3)
  const fits = size <= maxRecordBytes && length <= Math.min(size, maxHelloBytes)
  if (!fits || bytes.length < recordHeader + size) return undefined
  return bytes.subarray(recordHeader + 4, recordHeader + length)
}

function more(need: number): HelloProgress {
  return need > maxHelloBytes ? { state: 'other' } : { state: 'more', need }
}

/** Reads a ClientHello; undefined where a length does not fit or something is twice there. */
export function parseClientHello(message: Buffer): ClientHello | undefined {
  const reader = new Reader(message)
  const legacyVersion = reader.number(2)
  reader.skip(32)
  const session = reader.vector(1)
  const suites = reader.vector(2).numbers()
  const compression = reader.vector(1)
  const extensions = readExtensions(reader)
  const sound = session.length <= 32 && suites.length > 0 && compression.length > 0
  if (reader.broken || reader.left > 0 || !sound || extensions === undefined) return undefined
  const of = (type: number): Reader =>
    new Reader(extensions.get(type) ?? Buffer.alloc(0), !extensions.has(type))
  const versions = of(43).vector(1).numbers()
  return {
    legacyVersion,
    versions: versions.length > 0 ? versions.toSorted((a, b) => b - a) : [legacyVersion],
    suites,
    extensions: [...extensions.keys()],
    groups: of(10).vector(2).numbers(),
    signatureAlgorithms: of(13).vector(2).numbers(),
    alpn: readProtocols(of(16).vector(2)),
    serverName: readServerName(of(0)),
    maxFragmentLength: [undefined, 512, 1024, 2048, 4096][of(1).number(1)],
  }
}

const tls13 = 0x0304
const supportedVersions = 43

/**
 * Whether a hello offers TLS 1.3 (RFC 8446, 4.2.1). Asked of every connection, and so without reading the rest: where a length does not
 * fit it does not, and OpenSSL finds that too.
 */
export function offersTls13(message: Buffer): boolean {
  const { length } = message
  const at = (offset: number): number => message[offset] ?? length // behind the end everything is too long
  const pair = (offset: number): number => at(offset) * 256 + at(offset + 1)
  let next = 35 + at(34) // version, random, session
  next += 2 + pair(next)
  next += 1 + at(next)
  for (next += 2; next + 4 <= length; next += 4 + pair(next + 2)) {
    if (pair(next) !== supportedVersions) continue
    const end = Math.min(next + 5 + at(next + 4), length)
    for (let version = next + 5; version + 2 <= end; version += 2) {
      if (pair(version) === tls13) return true
    }
    return false
  }
  return false
}

/** A client without any extension is as good as one with an empty list. Two of a kind are forbidden. */
function readExtensions(reader: Reader): Map<number, Buffer> | undefined {
  const found = new Map<number, Buffer>()
  if (reader.left === 0) return found
  const list = reader.vector(2)
  while (list.left > 0 && !list.broken) {
    const type = list.number(2)
    const content = list.bytes(list.number(2))
    if (found.has(type)) return undefined
    found.set(type, content)
  }
  return list.broken ? undefined : found
}

function readProtocols(list: Reader): string[] {
  const names: string[] = []
  while (list.left > 0 && !list.broken && names.length < 16) {
    const name = list.vector(1).text()
    if (/^[\x21-\x7e]{1,32}$/.test(name)) names.push(name)
  }
  return names
}

/** Whoever connects writes this: what is no host name or address is left out. */
function readServerName(extension: Reader): string | undefined {
  const list = extension.vector(2)
  if (list.number(1) !== 0) return undefined
  const name = list.vector(2).text()
  return /^[A-Za-z0-9_.:-]{1,253}$/.test(name) ? name.toLowerCase() : undefined
}

/** Takes numbers and lists off the front. Once something is missing it is broken, and all it gives is empty. */
class Reader {
  readonly #bytes: Buffer
  #at = 0
  broken: boolean

  constructor(bytes: Buffer, broken = false) {
    this.#bytes = bytes
    this.broken = broken
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }

  get length(): number {
    return this.#bytes.length
  }

  bytes(size: number): Buffer {
    if (this.broken || size > this.left) this.broken = true
    if (this.broken) return Buffer.alloc(0)
    this.#at += size
    return this.#bytes.subarray(this.#at - size, this.#at)
  }

  skip(size: number): void {
    this.bytes(size)
  }

  number(size: 1 | 2): number {
    const bytes = this.bytes(size)
    return bytes.length === 0 ? 0 : bytes.readUIntBE(0, size)
  }

  /** What follows a length of so many bytes. */
  vector(lengthBytes: 1 | 2): Reader {
    const bytes = this.bytes(this.number(lengthBytes))
    return new Reader(bytes, this.broken)
  }

  /** All that is left, as 16-bit numbers. */
  numbers(): number[] {
    if (this.broken || this.left % 2 !== 0) return []
    return Array.from({ length: this.left / 2 }, () => this.number(2))
  }

  text(): string {
    return this.bytes(this.left).toString('latin1')
  }
}
