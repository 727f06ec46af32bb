import type { Server as HttpsServer } from 'node:https'
import { type AddressInfo, isIPv6 } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Config, ListenAddress } from './config.ts'
import { PawlError } from './errors.ts'
import type { ServerTls, TlsOptions } from './pki/tls.ts'

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
  return urlAt({ host, port: portOf(app) })
}

/** How this machine reaches what listens there. */
export function urlAt({ host, port }: ListenAddress): string {
  const name = host === '::' || host === '0.0.0.0' ? 'localhost' : isIPv6(host) ? `[${host}]` : host
  return `https://${name}:${port}`
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

/** A listener that runs, for whoever renews its certificates and whoever stops it. */
export interface Listener {
  /** Its certificates; undefined where its root is gone, and it is to be closed. */
  readonly tls: () => ServerTls | undefined
  /** Takes up the certificates as they are now; closes where there are none any more. */
  secure(): Promise<void>
  /** Stops accepting, and cuts what has not finished within the grace. */
  close(graceSeconds: number): Promise<void>
}

/** A listener of this process. `options` is what its TLS is made of now. */
export function listenerOf(
  app: FastifyInstance,
  tls: () => ServerTls | undefined,
  options: () => TlsOptions | undefined = () => tls()?.options(),
): Listener {
  return {
    tls,
    async secure() {
      const now = options()
      if (now === undefined) await app.close()
      else (app.server as unknown as HttpsServer).setSecureContext(now) // all listeners are https
    },
    close: (graceSeconds) => closeWithin(app, graceSeconds),
  }
}

/** Stops accepting, lets requests finish, and cuts what has not by then. */
export async function closeWithin(app: FastifyInstance, graceSeconds: number): Promise<void> {
  const cut = setTimeout(() => app.server.closeAllConnections(), graceSeconds * 1000)
  await app.close()
  clearTimeout(cut)
}
