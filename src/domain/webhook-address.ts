import ipaddr from 'ipaddr.js'
import { type AddressRange, canonicalAddress, contains } from './address.ts'

/**
 * Where webhooks may go. A URL is an operator's, the name in it resolves to whatever its owner says at that moment: so the
 * address that a connection is about to be made to is what is judged, each time.
 */

/** IPv4 that is not the public Internet (IANA's special-purpose registry), or that is a cloud's own. */
const closedIPv4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '168.63.129.16/32', // Azure's WireServer, public in form only
  '169.254.0.0/16', // with the metadata services of the clouds
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.31.196.0/24',
  '192.52.193.0/24',
  '192.88.99.0/24', // 6to4 relays
  '192.168.0.0/16',
  '192.175.48.0/24',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/3', // multicast, reserved, broadcast
].map(rangeOf)

/** The public Internet of IPv6 is 2000::/3; what lies in it and leads elsewhere is closed. */
const openIPv6 = rangeOf('2000::/3')
const closedIPv6 = [
  '2001::/23', // Teredo, ORCHID, benchmarking and other protocol assignments
  '2001:db8::/32',
  '2002::/16', // 6to4: an IPv4 address within
  '2620:4f:8000::/48', // AS112
  '3fff::/20',
].map(rangeOf)

/** How an address may be used: `public` by HTTPS, `listed` by HTTP too, `closed` not at all. */
export type AddressUse = 'public' | 'listed' | 'closed'

/**
 * Judges an address; `allowed` are the networks that an operator listed. An IPv4 address in IPv6 clothes (`::ffff:10.0.0.1`)
 * is the IPv4 one; what is no address is closed.
 */
export function addressUse(text: string, allowed: readonly AddressRange[]): AddressUse {
  let address: string
  try {
    address = canonicalAddress(text)
  } catch {
    return 'closed'
  }
  // A scope (fe80::1%eth0) is never on the public Internet, and a list of prefixes cannot name it.
  if (text.includes('%')) return 'closed'
  if (allowed.some((range) => contains(range, address))) return 'listed'
  const parsed = ipaddr.parse(address)
  const closed =
    parsed.kind() === 'ipv4'
      ? closedIPv4.some((range) => contains(range, address))
      : !contains(openIPv6, address) || closedIPv6.some((range) => contains(range, address))
  return closed ? 'closed' : 'public'
}

function rangeOf(cidr: string): AddressRange {
  const [address = '', length] = cidr.split('/')
  return { address, prefixLength: Number(length) }
}
