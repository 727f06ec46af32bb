import ipaddr from 'ipaddr.js'
import { type AddressRange, canonicalAddress, contains } from './address.ts'

/**
 * Where clouds hand out credentials to whoever asks: link-local addresses, and the few beside them. A cluster's API may be at any other
 * address, private ones too.
 */
const closed: readonly AddressRange[] = [
  { address: '169.254.0.0', prefixLength: 16 },
  { address: '168.63.129.16', prefixLength: 32 }, // Azure's WireServer
  { address: 'fe80::', prefixLength: 10 },
  { address: 'fd00:ec2::', prefixLength: 32 }, // Amazon's, by IPv6
]

/** Prefixes of IPv6 that lead to an IPv4 address, and the byte where it begins. */
const leadsToIPv4: readonly (readonly [AddressRange, number])[] = [
  [{ address: '::', prefixLength: 96 }, 12], // IPv4-compatible (RFC 4291)
  [{ address: '::ffff:0:0:0', prefixLength: 96 }, 12], // IPv4-translated (RFC 2765)
  [{ address: '64:ff9b::', prefixLength: 96 }, 12], // NAT64 (RFC 6052)
  [{ address: '64:ff9b:1::', prefixLength: 48 }, 12], // NAT64 of a site (RFC 8215)
  [{ address: '2002::', prefixLength: 16 }, 2], // 6to4 (RFC 3056)
]

/** Whether a cluster is never asked at an address, in whatever spelling; what is no address is closed. */
export function isClosedToClusters(text: string): boolean {
  let address: string
  try {
    address = canonicalAddress(text)
  } catch {
    return true
  }
  return [address, ...within(address)].some((one) => closed.some((range) => contains(range, one)))
}

function within(address: string): string[] {
  const bytes = ipaddr.parse(address).toByteArray()
  return leadsToIPv4
    .filter(([range]) => contains(range, address))
    .map(([, at]) => bytes.slice(at, at + 4).join('.'))
}
