import type { TLSSocket } from 'node:tls'
import type { FastifyRequest } from 'fastify'
import { type Arrival, type ClientTls, cleanAgent } from '../domain/span.ts'
import { waitedSeconds } from './admit.ts'

/** A connection's TLS does not change: it is asked for once. */
const known = new WeakMap<object, ClientTls | null>()

/** What a request came by, for the timeline. Where a proxy that is trusted forwards it, the TLS is the proxy's and says nothing. */
export function arrivalOf(request: FastifyRequest): Arrival {
  const forwarded = request.ips !== undefined && request.ips.length > 1
  return {
    agent: cleanAgent(request.headers['user-agent']),
    tls: forwarded ? null : tlsOf(request.raw.socket as Partial<TLSSocket>),
    queuedSeconds: Math.round(waitedSeconds(request) * 1000) / 1000,
  }
}

function tlsOf(socket: Partial<TLSSocket>): ClientTls | null {
  const before = known.get(socket)
  if (before !== undefined) return before
  const version = socket.getProtocol?.() // `inject` has none of TLS
  const cipher = version == null ? undefined : socket.getCipher?.()
  const tls =
    version == null || cipher === undefined
      ? null
      : { version, cipher: cipher.name, resumed: socket.isSessionReused?.() === true }
  known.set(socket, tls)
  return tls
}
