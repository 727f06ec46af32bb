import ipaddr from 'ipaddr.js'
import { PawlError } from '../errors.ts'
import { type MacAddress, parseMac, quote } from './node.ts'

/** How boot media reach the server, where the network does not tell them by DHCP. */
export interface MediaNetwork {
  /** The NIC to boot from. */
  readonly mac?: MacAddress
  /** The tag of its frames (IEEE 802.1Q). */
  readonly vlan?: number
  /** IPv4, always with its netmask. */
  readonly address?: string
  readonly netmask?: string
  readonly gateway?: string
  readonly dns?: string
}

/** The same as it was typed. */
export interface MediaNetworkWords {
  readonly mac?: string | undefined
  readonly vlan?: number | undefined
  /** `192.0.2.10/24`. */
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
    ...(address === undefined ? {} : addressOf(address, gateway)),
    ...(dns === undefined ? {} : { dns: host(dns, 'DNS server') }),
  }
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
