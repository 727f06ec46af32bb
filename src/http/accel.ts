import { BlockList, isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import type { Digest } from '../domain/digest.ts'

/** Answers the internal location of an artifact, for the proxy that a request came through; undefined where we send the bytes. */
export type Accel = (request: Pick<FastifyRequest, 'headers' | 'raw'>, digest: Digest) => string | undefined

/** Said by an nginx that knows `X-Accel-Redirect`; one of the trusted proxies may be something else. */
const saysSo = 'pawl-accel'

/**
 * Lets an nginx before us send the bytes. What it is told is a location that only it can open, never a path on a disk. Whoever is
 * no trusted proxy may send the header: it means nothing then.
 */
export function openAccel(path: string | undefined, trustedProxies: readonly string[]): Accel {
  if (path === undefined) return () => undefined
  const trusted = new BlockList()
  for (const proxy of trustedProxies) {
    const [address = '', length] = proxy.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    trusted.addSubnet(address, Number(length ?? (family === 'ipv6' ? 128 : 32)), family)
  }
  return ({ headers, raw }, digest) => {
    if (headers[saysSo] !== 'nginx') return undefined
    const address = (raw.socket.remoteAddress ?? '').replace(/^::ffff:(?=\d+\.)/, '')
    const family = isIP(address)
    if (family === 0 || !trusted.check(address, family === 6 ? 'ipv6' : 'ipv4')) return undefined
    return `${path}sha256/${digest}`
  }
}
