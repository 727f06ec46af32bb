import ipaddr from 'ipaddr.js'
import { parseAddressRange } from '../domain/address.ts'
import { isPawlError, PawlError } from '../errors.ts'

/** The addresses that are leased; or, with `proxy`, the network that another DHCP server leases. */
export interface LeaseRange {
  readonly family: 4 | 6
  readonly first: string
  readonly last: string
  /** The network, without its length. */
  readonly network: string
  readonly prefixLength: number
}

/** What is asked for, read and checked. */
export interface DhcpOptions {
  readonly interface: string | undefined
  readonly ranges: readonly LeaseRange[]
  readonly routers: readonly string[]
  readonly dns: readonly string[]
  /** Another DHCP server leases addresses: this one adds only what firmware needs. */
  readonly proxy: boolean
  readonly tftpServers: readonly string[]
  /** How machines reach the boot listener, where it is not the server's public URL. */
  readonly bootUrl: string | undefined
  /** Binaries that were named. */
  readonly binaries: readonly string[]
}

/** The flags, as they were typed. */
export interface DhcpFlags {
  readonly interface?: string
  readonly range?: readonly string[]
  readonly router?: readonly string[]
  readonly dns?: readonly string[]
  readonly proxy?: true
  readonly tftpServer?: readonly string[]
  readonly binary?: readonly string[]
}

/** Reads the flags; throws `usage` naming the flag, its value and the rule. What is written into a configuration is checked here. */
export function parseDhcpFlags(flags: DhcpFlags, bootUrl: string | undefined): DhcpOptions {
  const proxy = flags.proxy === true
  const options: DhcpOptions = {
    interface: flags.interface === undefined ? undefined : parseInterface(flags.interface),
    ranges: (flags.range ?? []).map((text) => (proxy ? parseNetwork(text) : parseRange(text))),
    routers: (flags.router ?? []).map((text) => parseAddress('--router', text)),
    dns: (flags.dns ?? []).map((text) => parseAddress('--dns', text)),
    proxy,
    tftpServers: (flags.tftpServer ?? []).map((text) => parseAddress('--tftp-server', text)),
    bootUrl,
    binaries: flags.binary ?? [],
  }
  checkTogether(options)
  return options
}

function checkTogether({ ranges, proxy, tftpServers, routers, dns }: DhcpOptions): void {
  for (const family of [4, 6] as const)
    if (ranges.filter((range) => range.family === family).length > 1)
      throw new PawlError('usage', `--range names two IPv${family} ranges`, {
        hint: 'one network of a family at a time: make a configuration for each, or add ranges by hand',
      })
  if (proxy && ranges.length === 0)
    throw new PawlError('usage', '--proxy needs the network that the other DHCP server leases', {
      hint: 'such as --range 192.0.2.0/24',
    })
  if (proxy && ranges.some(({ family }) => family === 6))
    throw new PawlError('usage', '--proxy is of IPv4: DHCPv6 has no ProxyDHCP', {
      hint: 'leave out the IPv6 range, and have your DHCPv6 server answer option 59 (see the configuration without --proxy)',
    })
  if (proxy && routers.length + dns.length > 0)
    throw new PawlError('usage', '--router and --dns are not told to machines with --proxy', {
      hint: 'the other DHCP server tells both: leave them out',
    })
  for (const family of [4, 6] as const)
    if (tftpServers.filter((address) => familyOf(address) === family).length > 1)
      throw new PawlError('usage', `--tftp-server names two IPv${family} addresses`)
  if (routers.some((address) => familyOf(address) === 6))
    throw new PawlError('usage', '--router is of IPv4: in IPv6 routers announce themselves')
  if (routers.length > 1) throw new PawlError('usage', '--router names two routers')
}

/** A name that Linux takes (15 bytes) and no configuration file misreads. */
function parseInterface(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$/.test(text)) return text
  throw fault('--interface', text, 'a network interface: letters, digits, ".", "_" and "-", 15 at most')
}

function parseAddress(flag: string, text: string): string {
  const rule = 'an IP address'
  if (text.includes('/')) throw fault(flag, text, rule)
  return readAddress(flag, text, rule)
}

function readAddress(flag: string, text: string, rule: string): string {
  try {
    const { address } = parseAddressRange(text)
    if (address === '0.0.0.0' || address === '::') throw fault(flag, text, `${rule} that machines can reach`)
    return address
  } catch (error) {
    if (isPawlError(error, 'usage')) throw error
    throw fault(flag, text, rule)
  }
}

const rangeRule = 'FIRST-LAST/LENGTH, such as 192.0.2.100-192.0.2.199/24'

function parseRange(text: string): LeaseRange {
  const match = /^([0-9a-fA-F.:]+)-([0-9a-fA-F.:]+)\/(\d{1,3})$/.exec(text)
  if (match === null) throw fault('--range', text, rangeRule)
  const [, from = '', to = '', length = ''] = match
  const first = readAddress('--range', from, rangeRule)
  const last = readAddress('--range', to, rangeRule)
  const family = familyOf(first)
  const prefixLength = Number(length)
  if (family !== familyOf(last)) throw fault('--range', text, 'a range of one family')
  if (family === 4 ? prefixLength < 8 || prefixLength > 30 : prefixLength !== 64)
    throw fault('--range', text, `${rangeRule} (IPv4: a length from 8 to 30, IPv6: 64)`)
  const network = networkOf(first, prefixLength)
  if (networkOf(last, prefixLength) !== network)
    throw fault('--range', text, `a range inside one network of length ${prefixLength}`)
  if (isBehind(first, last))
    throw fault('--range', text, 'a range whose first address is not behind its last')
  return { family, first, last, network, prefixLength }
}

function parseNetwork(text: string): LeaseRange {
  const rule = 'with --proxy a network, such as 192.0.2.0/24'
  try {
    const { address, prefixLength } = parseAddressRange(text)
    if (text.includes('/')) {
      return { family: familyOf(address), first: address, last: address, network: address, prefixLength }
    }
  } catch (error) {
    if (!isPawlError(error, 'invalid')) throw error
  }
  throw fault('--range', text, rule)
}

function networkOf(address: string, prefixLength: number): string {
  const kind = familyOf(address) === 4 ? ipaddr.IPv4 : ipaddr.IPv6
  return kind.networkAddressFromCIDR(`${address}/${prefixLength}`).toString()
}

function isBehind(address: string, other: string): boolean {
  const [left, right] = [address, other].map((each) => Buffer.from(ipaddr.parse(each).toByteArray()))
  return left !== undefined && right !== undefined && Buffer.compare(left, right) > 0
}

function familyOf(address: string): 4 | 6 {
  return address.includes(':') ? 6 : 4
}

function fault(flag: string, text: string, rule: string): PawlError {
  return new PawlError('usage', `${flag} ${JSON.stringify(text.slice(0, 100))} is not ${rule}`)
}
