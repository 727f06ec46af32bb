/**
 * The NIC that iPXE booted from, as the minimal system is to bring it up again: by the same address family, from the same
 * address, as the same DHCP client. Read from facts, which anyone can tell: what is not of its form is left out, so that an
 * agent's shell never sees it.
 */
import ipaddr from 'ipaddr.js'
import { plainIPv4 } from './address.ts'
import { type Facts, macOf, uuidOf } from './facts.ts'
import type { MacAddress } from './node.ts'

/** How iPXE came to its IPv6 address: from a router's prefix, from a DHCPv6 server, or by hand. */
export type Ipv6Method = 'slaac' | 'dhcp' | 'static'

/** The NIC as a handover tells it; null is what iPXE did not tell. */
export interface BootNic {
  readonly mac: MacAddress | null
  readonly vlan: string | null
  /** By which the machine talks to us. */
  readonly family: 4 | 6
  /** Whether the IPv4 address came by DHCP. */
  readonly dhcp: boolean
  readonly address: string | null
  readonly netmask: string | null
  readonly gateway: string | null
  readonly dns: string | null
  readonly method6: Ipv6Method | null
  readonly address6: string | null
  readonly prefix6: number | null
  /** May be link-local, as routers mostly are. */
  readonly gateway6: string | null
  readonly dns6: string | null
  /** As whom iPXE asks DHCPv6 servers (RFC 8415): its DUID, bytes in hex with colons, and its IAID. */
  readonly duid: string | null
  readonly iaid: number | null
}

/** Where the machine and this server met: what decides where it has both address families. */
export interface Meeting {
  /** The public URL that it was sent to. */
  readonly publicUrl: string
  /** Where its request came from. */
  readonly source: string
}

/** Reads the boot NIC from what iPXE told. */
export function bootNic(facts: Facts, meeting: Meeting): BootNic {
  const mac = macOf(facts)
  // Where the firmware loaded iPXE over IPv6, iPXE 2.0.0 tells `::` first; what routers and DHCPv6 gave it stands beside that.
  const address6 = ipv6(facts.ip6, isUsable) ?? ipv6(facts.dhcp6, isUsable) ?? ipv6(facts.slaac6, isUsable)
  return {
    mac: mac ?? null,
    vlan: number(facts.vlan, 1, 4094)?.toString() ?? null,
    family: familyOf(facts, address6, meeting),
    dhcp: facts.ip === undefined || facts.dhcp !== undefined,
    address: ipv4(facts.ip),
    netmask: ipv4(facts.netmask),
    gateway: ipv4(facts.gateway),
    dns: ipv4(facts.dns),
    method6: methodOf(facts, address6),
    address6,
    prefix6: prefixLength(facts.len6),
    gateway6: ipv6(facts.gateway6, (range) => isUsable(range) || range === 'linkLocal'),
    dns6: ipv6(facts.dns6, isUsable),
    duid: duidOf(facts),
    iaid: mac === undefined ? null : iaidOf(mac),
  }
}

/** One family is plain. With both, an address in the public URL says which was used, or else where the request came from. */
function familyOf(facts: Facts, address6: string | null, { publicUrl, source }: Meeting): 4 | 6 {
  const address = ipv4(facts.ip)
  if (address !== null && address6 === null) return 4
  if (address6 !== null && address === null) return 6
  const literal = kindOf(new URL(publicUrl).hostname.replace(/^\[|\]$/g, ''))
  return (literal ?? kindOf(source)) === 6 ? 6 : 4
}

/** iPXE names the prefix itself as the router's address where the router leaves addresses to DHCPv6: hence the comparison. */
function methodOf(facts: Facts, address6: string | null): Ipv6Method | null {
  if (address6 === null) return null
  if (ipv6(facts.dhcp6, isUsable) === address6) return 'dhcp'
  return ipv6(facts.slaac6, isUsable) === address6 ? 'slaac' : 'static'
}

/** iPXE's is of the kind DUID-UUID (4); without a UUID it asks no DHCPv6 server. Seen with 1.21.1 and 2.0.0. */
function duidOf(facts: Facts): string | null {
  const uuid = uuidOf(facts)?.replaceAll('-', '')
  return uuid === undefined ? null : `00:04:${uuid.match(/../g)?.join(':')}`
}

/** iPXE's: the CRC-32 of the MAC address, begun with 0 and not inverted. Seen with 1.21.1 and 2.0.0. */
function iaidOf(mac: MacAddress): number {
  let crc = 0
  for (const byte of mac.split(':')) {
    crc ^= Number.parseInt(byte, 16)
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) === 1 ? 0xedb88320 : 0)
  }
  return crc >>> 0
}

/** iPXE prints one signed byte: 128 is told as -128. */
function prefixLength(told: string | undefined): number | null {
  return told === '-128' ? 128 : number(told, 1, 128)
}

function number(told: string | undefined, least: number, most: number): number | null {
  const value = Number(told)
  return told !== undefined && /^\d{1,4}$/.test(told) && value >= least && value <= most ? value : null
}

function ipv4(told: string | undefined): string | null {
  return told !== undefined && kindOf(told) === 4 ? told : null
}

function ipv6(told: string | undefined, takes: (range: string) => boolean): string | null {
  if (told === undefined || kindOf(told) !== 6) return null
  const address = ipaddr.IPv6.parse(told)
  return takes(address.range()) ? address.toString() : null
}

/** The family of an address in its full form, without a zone; undefined for anything else. */
function kindOf(text: string): 4 | 6 | undefined {
  if (plainIPv4.test(text)) return 4
  return text.includes(':') && !text.includes('%') && ipaddr.IPv6.isValid(text) ? 6 : undefined
}

/** Whether such an address leads to one machine from beyond its own link. */
function isUsable(range: string): boolean {
  return !['unspecified', 'loopback', 'multicast', 'linkLocal', 'ipv4Mapped'].includes(range)
}
