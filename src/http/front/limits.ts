import type { Connections } from '../connections.ts'
import type { PendingConnection } from './pending-connection.ts'

/** Bounds; what is reached costs the connection, never the server. */
export interface FrontLimits {
  /** A PROXY header must be there by then: the proxy sends it with its first packet. */
  readonly headerMilliseconds: number
  /** A whole hello must be there by then. TLS has a limit of its own for the rest. */
  readonly helloMilliseconds: number
  /** Connections in their handshake. One more cuts off the oldest: a flood makes room for itself, not for ever. */
  readonly maxHalfOpen: number
  /** The same of one IPv4 address or IPv6 /64: one more is not taken. */
  readonly maxOfAddress: number
  /** Memory for hellos that have not come whole, of all connections. One more is not looked at. */
  readonly maxHeldBytes: number
}

/** The bounds that a server has. */
export const frontLimits: Omit<FrontLimits, 'maxHalfOpen'> = {
  headerMilliseconds: 3000,
  helloMilliseconds: 10_000,
  maxHeldBytes: 32 * 1024 * 1024,
  maxOfAddress: 5000,
}

/** What the front is made of. */
export interface FrontOptions {
  /** Prefixes of proxies that speak the PROXY protocol. */
  readonly proxies: readonly string[]
  readonly limits: FrontLimits
  /** A connection came to nothing: by this front, or, with an error, in TLS. */
  readonly onFault: (arrival: PendingConnection, error: Error | undefined) => void
  /** Called with the hello, where there is one, at once before TLS gets the connection. */
  readonly beforeTls?: ((hello: Buffer | undefined) => void) | undefined
  /** Counts all connections, whatever becomes of them. */
  readonly connections?: Connections | undefined
}
