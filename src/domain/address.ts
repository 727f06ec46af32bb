import ipaddr from 'ipaddr.js'
import { PawlError } from '../errors.ts'
import { quote } from './node.ts'

/** An IP address or prefix in canonical form. A single address has the full prefix length (32 or 128). */
export interface AddressRange {
  readonly address: string
  readonly prefixLength: number
}

/** The canonical text of an IP address: IPv4-mapped IPv6 becomes IPv4, IPv6 is compressed (RFC 5952), zones are dropped. */
export function canonicalAddress(text: string): string {
  return parse(text).toString()
}

/** Reads `192.0.2.1`, `2001:db8::1` or a CIDR prefix; throws `invalid`. Host bits of a prefix must be zero. */
export function parseAddressRange(text: string): AddressRange {
  const [host, length, ...more] = text.split('/')
  if (host === undefined || host.includes('%') || more.length > 0) throw notAnAddress(text)
  const address = parse(host)
  const full = address.kind() === 'ipv4' ? 32 : 128
  const prefixLength = length === undefined ? full : Number(length)
  if (length !== undefined && (!/^\d{1,3}$/.test(length) || prefixLength > full)) throw notAnAddress(text)
  if (networkOf(address, prefixLength) !== address.toString()) {
    throw new PawlError('invalid', `prefix ${quote(text)} has host bits set`, {
      hint: `use ${networkOf(address, prefixLength)}/${prefixLength}`,
    })
  }
  return { address: address.toString(), prefixLength }
}

/**
 * Why no machine can be told by an address, or be reached at it from more than one link: the words to follow the address. Undefined
 * where it can. A link-local IPv6 address is another machine's on the next link, and needs a zone that no URL and no list can hold.
 */
export function unfitForMachine(address: string): string | undefined {
  const kind = parse(address).range()
  if (kind === 'linkLocal' && address.includes(':'))
    return 'is link-local: it means nothing beyond its own link'
  if (kind === 'multicast') return 'is a multicast address, of no machine alone'
  return kind === 'unspecified' && !/[1-9a-f]/i.test(address)
    ? 'is the unspecified address, of no machine'
    : undefined
}

/** Reads what a node may be registered with: an address or prefix that tells machines; throws `invalid`. */
export function parseNodeAddress(text: string): AddressRange {
  const range = parseAddressRange(text)
  const unfit = isSingle(range) || range.address.includes(':') ? unfitForMachine(range.address) : undefined
  // `::/0` begins with the unspecified address, and is a prefix of others.
  if (unfit === undefined || (!isSingle(range) && range.prefixLength < 8)) return range
  throw new PawlError('invalid', `address ${quote(text)} ${unfit}`)
}

/** Whether the range is one address, not a prefix. */
export function isSingle(range: AddressRange): boolean {
  return range.prefixLength === (range.address.includes(':') ? 128 : 32)
}

/** Whether `source` lies in `range`. What is no address lies nowhere. */
export function contains(range: AddressRange, source: string): boolean {
  const address = parsed(source)
  const network = parse(range.address)
  return (
    address !== undefined && address.kind() === network.kind() && address.match(network, range.prefixLength)
  )
}

/** The unit that refusals are counted by: one IPv4 address, or an IPv6 /64, since one machine has all of that. */
export function countingUnit(source: string): string {
  return unitOf(source, 64)
}

/** The same of one who has a site: one IPv4 address, or an IPv6 /48, which holds 65,536 units to count by. */
export function siteUnit(source: string): string {
  return unitOf(source, 48)
}

function unitOf(source: string, prefixLength: number): string {
  if (plainIPv4.test(source)) return source
  const address = parsed(source)
  if (address === undefined) return 'no address'
  return address.kind() === 'ipv4'
    ? address.toString()
    : `${networkOf(address, prefixLength)}/${prefixLength}`
}

/**
 * The wider unit that a counting unit is of, which one owner may have all of: an IPv6 /48, an IPv4 /24.
 */
export function countingGroup(unit: string): string {
  const address = parsed(unit.replace(/\/.*$/, ''))
  if (address === undefined) return unit
  const length = address.kind() === 'ipv4' ? 24 : 48
  return `${networkOf(address, length)}/${length}`
}

/** An IPv4 address in its one spelling, as nearly every source is: it needs no parser. */
export const plainIPv4 = /^(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}$/
/** How a listener for both families tells it. */
const mapped = '::ffff:'

/** A client's address in its one spelling; `unknown` for what is none, as a proxy may forward. */
export function sourceAddress(text: string | undefined): string {
  if (text !== undefined) {
    if (plainIPv4.test(text)) return text
    const inner = text.startsWith(mapped) ? text.slice(mapped.length) : ''
    if (plainIPv4.test(inner)) return inner
  }
  return (text === undefined ? undefined : parsed(text))?.toString() ?? 'unknown'
}

function parsed(text: string): ipaddr.IPv4 | ipaddr.IPv6 | undefined {
  try {
    return parse(text)
  } catch {
    return undefined
  }
}

function parse(text: string): ipaddr.IPv4 | ipaddr.IPv6 {
  const bare = text.replace(/%.*$/, '')
  // ipaddr.js would read "1", "0x7f.1" and "010.0.0.1" too: only the full dotted form names one address to everyone.
  if (/^[0-9a-f.x]*$/i.test(bare) && !bare.includes(':') && !ipaddr.IPv4.isValidFourPartDecimal(bare))
    throw notAnAddress(text)
  if (!ipaddr.isValid(bare)) throw notAnAddress(text)
  return ipaddr.process(bare)
}

function networkOf(address: ipaddr.IPv4 | ipaddr.IPv6, prefixLength: number): string {
  const cidr = `${address.toString()}/${prefixLength}`
  return address.kind() === 'ipv4'
    ? ipaddr.IPv4.networkAddressFromCIDR(cidr).toString()
    : ipaddr.IPv6.networkAddressFromCIDR(cidr).toString()
}

function notAnAddress(text: string): PawlError {
  return new PawlError('invalid', `${quote(text)} is not an IP address or CIDR prefix`)
}
