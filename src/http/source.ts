import type { FastifyRequest } from 'fastify'
import { sourceAddress } from '../domain/address.ts'

/**
 * Where a request came from, after trusted proxies, in one spelling: a listener for both families tells IPv4 clients as
 * `::ffff:192.0.2.1`. `unknown` where the socket is gone already, or a proxy forwards what is no address.
 */
export function sourceOf(request: Pick<FastifyRequest, 'ip'>): string {
  return sourceAddress(request.ip as string | undefined) // typed as always there, which a closed socket is not
}
