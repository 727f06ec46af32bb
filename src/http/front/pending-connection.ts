import { BlockList, isIPv6 } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { HandshakeCause } from '../../handshake/diagnosis.ts'
import type { ProxiedSource } from '../../handshake/proxy-header.ts'

/** A connection that has not finished its handshake. */
export interface PendingConnection {
  /** The client: what the proxy says, or else the other end. */
  readonly source: string
  /** The proxy that passed it on. */
  readonly via: string | undefined
  /** The hello, where there was one. */
  readonly hello: Buffer | undefined
  /** The first bytes, where they were no hello. */
  readonly first: Buffer | undefined
  /** Why it was cut off, if it was. */
  readonly early: HandshakeCause | undefined
  /** More words about that. */
  readonly detail: string | undefined
}

/** The same while it is being put together. */
export interface Entry extends PendingConnection {
  source: string
  via: string | undefined
  hello: Buffer | undefined
  first: Buffer | undefined
  early: HandshakeCause | undefined
  detail: string | undefined
  readonly acceptedAt: number
  /** When TLS got it. */
  begunAt: number | undefined
  /** What it is counted as, among those of its address. */
  unit: string | undefined
  /** Whether the PROXY header is still to come. */
  awaitsHeader: boolean
  /** Whether it was the proxy itself that connected, to see whether we are there. */
  proxyItself: boolean
  proxied: ProxiedSource | undefined
  /** What came so far, in room that grows; `need` bytes are worth a look. */
  held: Buffer
  length: number
  need: number
}

/** No bytes. */
export const nothing = Buffer.alloc(0)

/** What is known of a connection that was just accepted. */
export function entryFrom(source: string, awaitsHeader: boolean): Entry {
  return {
    source,
    via: undefined,
    hello: undefined,
    first: undefined,
    early: undefined,
    detail: undefined,
    acceptedAt: performance.now(),
    begunAt: undefined,
    unit: undefined,
    awaitsHeader,
    proxyItself: false,
    proxied: undefined,
    held: nothing,
    length: 0,
    need: 1,
  }
}

/** Whether an address is one of these prefixes'. */
export function proxyTest(prefixes: readonly string[]): (address: string) => boolean {
  if (prefixes.length === 0) return () => false
  const list = new BlockList()
  for (const prefix of prefixes) {
    const [address = '', length = ''] = prefix.split('/')
    list.addSubnet(address, Number(length), isIPv6(address) ? 'ipv6' : 'ipv4')
  }
  return (address) => address !== 'unknown' && list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
}

/** From here on the connection is the client's, for requests, their log and their limits. */
export function rename(socket: TLSSocket, { address, port }: ProxiedSource): void {
  Object.defineProperties(socket, {
    remoteAddress: { value: address },
    remotePort: { value: port },
    remoteFamily: { value: isIPv6(address) ? 'IPv6' : 'IPv4' },
  })
}
