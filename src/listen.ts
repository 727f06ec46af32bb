import { type AddressInfo, isIPv6 } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Config, ListenAddress } from './config.ts'
import { PawlError } from './errors.ts'

/** Listens; throws `usage` naming the address that cannot be had. */
export async function listen(app: FastifyInstance, address: ListenAddress): Promise<void> {
  try {
    await app.listen({ host: address.host, port: address.port })
  } catch (cause) {
    const code = (cause as { code?: string }).code
    const hint =
      code === 'EADDRINUSE'
        ? 'another process has this port: is a Pawl running already?'
        : 'check the address'
    throw new PawlError(
      'usage',
      `cannot listen on ${address.host} port ${address.port} (${code ?? 'unknown'})`,
      { hint, cause },
    )
  }
}

/** The port it listens on. */
export function portOf(app: FastifyInstance): number {
  return (app.server.address() as AddressInfo).port // it listens on a TCP port
}

/** How this machine reaches it. */
export function urlOf(app: FastifyInstance, { host }: ListenAddress): string {
  const name = host === '::' || host === '0.0.0.0' ? 'localhost' : isIPv6(host) ? `[${host}]` : host
  return `https://${name}:${portOf(app)}`
}

/** Every name that a client may call this server by. */
export function namesOf(config: Config, hostName: string): string[] {
  const publicName =
    config.publicUrl === undefined ? hostName : new URL(config.publicUrl).hostname.replace(/^\[|\]$/g, '')
  return [...new Set([publicName, ...config.names, hostName, 'localhost', '127.0.0.1', '::1'])]
}

/** Browsers may know the operator listener by a name of its own. */
export function operatorNamesOf(names: readonly string[], { operatorUrl }: Config): string[] {
  const own = operatorUrl === undefined ? [] : [new URL(operatorUrl).hostname.replace(/^\[|\]$/g, '')]
  return [...new Set([...names, ...own])]
}
