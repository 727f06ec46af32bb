import { isIPv4, isIPv6 } from 'node:net'
import { sourceAddress } from '../domain/address.ts'

/**
 * HAProxy's PROXY protocol, versions 1 and 2: what a proxy that passes TCP through writes in front of a connection to say whose it
 * is. Read strictly and without any I/O. https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
 */

/** Where the connection came from, as the proxy says. */
export interface ProxiedSource {
  readonly address: string
  readonly port: number
}

/** How far the bytes of a connection have come. */
export type ProxyProgress =
  /** So many bytes in all are needed before it is worth looking again. */
  | { readonly state: 'more'; readonly need: number }
  /** The header, of `length` bytes. No source: the proxy's own connection (LOCAL), or one that it knows nothing of (UNKNOWN). */
  | { readonly state: 'header'; readonly length: number; readonly source: ProxiedSource | undefined }
  /** There is none, or it is wrong. */
  | { readonly state: 'bad'; readonly reason: string }

const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')
const word = Buffer.from('PROXY ', 'latin1')
const fixedPart = 16
/** The specification's longest line of version 1, its end included. */
const maxLine = 107
/** Addresses, and room for what proxies and clouds tell beside them; it is passed over. */
const maxV2Bytes = 2048

/** Whether the bytes begin as a PROXY header does, as far as they go. */
export function looksProxied(bytes: Buffer): boolean {
  return bytes.length > 0 && (begins(bytes, signature) || begins(bytes, word))
}

/** Reads the header that a connection begins with. */
export function readProxyHeader(bytes: Buffer): ProxyProgress {
  if (bytes.length === 0) return { state: 'more', need: 1 }
  if (begins(bytes, signature)) return bytes.length < fixedPart ? more(fixedPart) : readBinary(bytes)
  if (begins(bytes, word)) return readLine(bytes)
  return bad('the connection does not begin with a PROXY header')
}

function begins(bytes: Buffer, with_: Buffer): boolean {
  const size = Math.min(bytes.length, with_.length)
  return bytes.subarray(0, size).equals(with_.subarray(0, size))
}

/** Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`, in ASCII, with one space between words. */
function readLine(bytes: Buffer): ProxyProgress {
  const end = bytes.subarray(0, maxLine).indexOf('\r\n')
  if (end < 0) return bytes.length < maxLine ? more(bytes.length + 1) : bad('its first line is too long')
  const [, family, from, to, fromPort, toPort, ...rest] = bytes.toString('latin1', 0, end).split(' ')
  const length = end + 2
  if (family === 'UNKNOWN') return { state: 'header', length, source: undefined } // the rest is to be ignored
  const isAddress = family === 'TCP4' ? isIPv4 : family === 'TCP6' ? isPlainIPv6 : undefined
  if (isAddress === undefined) return bad('it is neither TCP4 nor TCP6')
  const addresses = isAddress(from ?? '') && isAddress(to ?? '')
  if (!addresses || !isPort(fromPort) || !isPort(toPort) || rest.length > 0)
    return bad('its addresses are malformed')
  return { state: 'header', length, source: source(from ?? '', Number(fromPort)) }
}

function isPlainIPv6(text: string): boolean {
  return isIPv6(text) && !text.includes('%')
}

function isPort(text: string | undefined): boolean {
  return text !== undefined && /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535
}

/** Version 2: the signature, version and command, family, length, addresses, and then what else the proxy tells. */
function readBinary(bytes: Buffer): ProxyProgress {
  const [command, family, size] = [bytes.readUInt8(12), bytes.readUInt8(13), bytes.readUInt16BE(14)]
  if (command >> 4 !== 2) return bad('it is of a version that is not 2')
  if (command !== 0x20 && command !== 0x21) return bad('its command is neither LOCAL nor PROXY')
  const length = fixedPart + size
  if (length > maxV2Bytes) return bad(`it is longer than ${maxV2Bytes} bytes`)
  if (bytes.length < length) return more(length)
  const header = bytes.subarray(0, length)
  // LOCAL: the proxy itself, looking whether we are there. Its addresses, if any, mean nothing.
  if (command === 0x20) return { state: 'header', length, source: undefined }
  const addressBytes = { 0: 0, 17: 12, 33: 36 }[family]
  if (addressBytes === undefined) return bad('it is not about a TCP connection over IPv4 or IPv6')
  if (size < addressBytes) return bad('it is shorter than its addresses')
  const extras = fixedPart + addressBytes
  if (!areWellFormed(header, extras)) return bad('what follows its addresses is malformed')
  return { state: 'header', length, source: addressBytes === 0 ? undefined : addressIn(header, family) }
}

function addressIn(header: Buffer, family: number): ProxiedSource {
  if (family === 0x11) return source(header.subarray(16, 20).join('.'), header.readUInt16BE(24))
  const words = Array.from({ length: 8 }, (_, i) => header.readUInt16BE(16 + 2 * i).toString(16))
  return source(words.join(':'), header.readUInt16BE(48))
}

function source(address: string, port: number): ProxiedSource {
  return { address: sourceAddress(address), port }
}

const checksumType = 0x03

/** Type, length, value, until the end exactly. Their meaning is passed over, but for a checksum, which must be right if it is there. */
function areWellFormed(header: Buffer, start: number): boolean {
  let at = start
  while (at < header.length) {
    if (at + 3 > header.length) return false
    const end = at + 3 + header.readUInt16BE(at + 1)
    if (end > header.length) return false
    if (header[at] === checksumType && !isChecksum(header, at + 3, end)) return false
    at = end
  }
  return true
}

/** CRC-32C over the whole header with the checksum's own place as zeros. */
function isChecksum(header: Buffer, from: number, to: number): boolean {
  if (to - from !== 4) return false
  const blank = Buffer.from(header).fill(0, from, to)
  let crc = 0xffff_ffff
  for (const byte of blank) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1
  }
  return (crc ^ 0xffff_ffff) >>> 0 === header.readUInt32BE(from)
}

function more(need: number): ProxyProgress {
  return { state: 'more', need }
}

function bad(reason: string): ProxyProgress {
  return { state: 'bad', reason }
}
