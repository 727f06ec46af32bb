import ipaddr from 'ipaddr.js'
import { PawlError } from '../errors.ts'
import { type MacAddress, parseMac, quote } from './node.ts'

/** How boot media reach the server, where the network does not tell them by DHCP. */
export interface MediaNetwork {
  /** The NIC to boot from. */
  readonly mac?: MacAddress
  /** The tag of its frames (IEEE 802.1Q). */
  readonly vlan?: number
  /** IPv4 with its netmask, or IPv6 with its prefix length. */
  readonly address?: string
  readonly netmask?: string
  readonly prefixLength?: number
  readonly gateway?: string
  readonly dns?: string
}

/** The same as it was typed. */
export interface MediaNetworkWords {
  readonly mac?: string | undefined
  readonly vlan?: number | undefined
  /** `192.0.2.10/24`, `2001:db8::10/64`. */
  readonly address?: string | undefined
  readonly gateway?: string | undefined
  readonly dns?: string | undefined
}

/** Reads static network settings; throws `invalid` naming the word and what it must be. */
export function parseMediaNetwork(words: MediaNetworkWords): MediaNetwork {
  const { mac, vlan, address, gateway, dns } = words
  if (vlan !== undefined && !(Number.isInteger(vlan) && vlan >= 1 && vlan <= 4094))
    throw new PawlError('invalid', `VLAN ${vlan} is not a number from 1 to 4094 (IEEE 802.1Q)`)
  const alone = { gateway, dns }
  for (const [name, value] of Object.entries(alone)) {
    if (value !== undefined && address === undefined)
      throw new PawlError('invalid', `a ${name} goes with an address: without one, DHCP tells both`)
  }
  return {
    ...(mac === undefined ? {} : { mac: parseMac(mac) }),
    ...(vlan === undefined ? {} : { vlan }),
    ...(address === undefined ? {} : staticOf(address, gateway, dns)),
  }
}

function staticOf(address: string, gateway: string | undefined, dns: string | undefined): MediaNetwork {
  const isIpv6 = address.includes(':')
  const settings = isIpv6 ? ipv6AddressOf(address, gateway) : addressOf(address, gateway)
  if (dns === undefined) return settings
  return { ...settings, dns: isIpv6 ? ipv6Host(dns, 'DNS server', []) : host(dns, 'DNS server') }
}

/** A gateway may be link-local, as routers mostly are; or else it is in the address's own network. */
function ipv6AddressOf(text: string, gateway: string | undefined): MediaNetwork {
  const [, word = '', length = ''] = /^([0-9a-f:.]+)\/(\d{1,3})$/i.exec(text) ?? []
  const bits = Number(length)
  if (word === '' || bits < 1 || bits > 128)
    throw new PawlError('invalid', `${quote(text)} is not an IPv6 address with its prefix length`, {
      hint: 'write it like 2001:db8::10/64',
    })
  const address = ipv6Host(word, 'address', [])
  const prefix = { address, prefixLength: bits }
  if (gateway === undefined) return prefix
  const way = ipv6Host(gateway, 'gateway', ['linkLocal'])
  const parsed = ipaddr.IPv6.parse(way)
  if (parsed.range() !== 'linkLocal' && !parsed.match(ipaddr.IPv6.parse(address), bits))
    throw new PawlError('invalid', `gateway ${way} is not in the network of ${text}: it cannot be reached`)
  if (way === address) throw new PawlError('invalid', `gateway ${way} is the machine's own address`)
  return { ...prefix, gateway: way }
}

/** In the one spelling of RFC 5952, without a zone. */
function ipv6Host(text: string, what: string, alsoTakes: readonly string[]): string {
  const isOne = ipaddr.IPv6.isValid(text) && !text.includes('%')
  const range = isOne ? ipaddr.IPv6.parse(text).range() : 'none'
  const unfit = ['unspecified', 'multicast', 'loopback', 'linkLocal', 'ipv4Mapped']
  if (isOne && (alsoTakes.includes(range) || !unfit.includes(range)))
    return ipaddr.IPv6.parse(text).toString()
  throw new PawlError('invalid', `${what} ${quote(text)} is not an IPv6 address of a machine`)
}

function addressOf(text: string, gateway: string | undefined): MediaNetwork {
  const [, word = '', length = ''] = /^([0-9.]+)\/(\d{1,2})$/.exec(text) ?? []
  const bits = Number(length)
  if (word === '' || bits < 1 || bits > 32)
    throw new PawlError('invalid', `${quote(text)} is not an IPv4 address with its prefix length`, {
      hint: 'write it like 192.0.2.10/24',
    })
  const address = host(word, 'address')
  const network = ipaddr.IPv4.networkAddressFromCIDR(text)
  const broadcast = ipaddr.IPv4.broadcastAddressFromCIDR(text)
  // RFC 3021: a /31 has two hosts and neither of these.
  if (bits < 31 && [network.toString(), broadcast.toString()].includes(address))
    throw new PawlError('invalid', `${quote(text)} is the address of its network, not of a machine in it`)
  const netmask = ipaddr.IPv4.subnetMaskFromPrefixLength(bits).toString()
  if (gateway === undefined) return { address, netmask }
  const way = host(gateway, 'gateway')
  if (!ipaddr.IPv4.parse(way).match(network, bits))
    throw new PawlError('invalid', `gateway ${way} is not in the network of ${text}: it cannot be reached`)
  if (way === address) throw new PawlError('invalid', `gateway ${way} is the machine's own address`)
  return { address, netmask, gateway: way }
}

/** The only spelling: four numbers, without leading zeros, of a machine that can be sent to. */
function host(text: string, what: string): string {
  const isOne = ipaddr.IPv4.isValidFourPartDecimal(text) && !/(^|\.)0\d/.test(text)
  const range = isOne ? ipaddr.IPv4.parse(text).range() : 'none'
  if (isOne && !['unspecified', 'broadcast', 'multicast', 'loopback'].includes(range)) return text
  throw new PawlError('invalid', `${what} ${quote(text)} is not an IPv4 address of a machine`)
}
