import type { Server } from 'node:https'
import type { Socket } from 'node:net'
import { sourceAddress } from '../domain/address.ts'
import type { Connections } from './connections.ts'
import { proxyTest } from './front/pending-connection.ts'

/** Bounds on one connection and its requests, of both listeners. */
export interface HttpLimits {
  readonly headerTimeoutSeconds: number
  readonly maxHeaderBytes: number
  readonly handshakeTimeoutSeconds: number
  readonly stallTimeoutSeconds: number
  readonly maxRequestsPerConnection: number
}

/** Limits of the operator listener. Seconds and bytes. */
export interface OperatorListenerLimits extends Partial<HttpLimits> {
  /** Bodies of all but artifacts. */
  readonly maxBodyBytes: number
  /** To send headers, and to be answered; artifacts have their own. */
  readonly requestTimeoutSeconds: number
  /** An artifact's upload, whole. */
  readonly uploadTimeoutSeconds: number
  readonly idleTimeoutSeconds: number
  readonly maxConnections: number
}

/** The defaults of the settings; a test compares. */
export const httpLimits: HttpLimits = {
  headerTimeoutSeconds: 10,
  maxHeaderBytes: 16_384,
  handshakeTimeoutSeconds: 10,
  stallTimeoutSeconds: 120,
  maxRequestsPerConnection: 1000,
}

/** What Fastify and node:https are told of them. Node takes no time for headers that is longer than the one for a request. */
export function limitOptions(limits: Partial<HttpLimits>, requestTimeoutSeconds: number) {
  const all = { ...httpLimits, ...limits }
  return {
    https: {
      handshakeTimeout: all.handshakeTimeoutSeconds * 1000,
      maxHeaderSize: all.maxHeaderBytes,
      headersTimeout: Math.min(all.headerTimeoutSeconds, requestTimeoutSeconds) * 1000,
      connectionsCheckingInterval: 1000,
    },
    connectionTimeout: all.stallTimeoutSeconds * 1000,
    maxRequestsPerSocket: all.maxRequestsPerConnection,
  }
}

/** Node's own bound, which closes without a word; ours comes first, and makes room. */
export const connectionsBeyond = 256

/** Has the connections of a server counted that does not listen yet, before TLS sees one. Proxies are not counted by address. */
export function countConnections(server: Server, connections: Connections, proxies: readonly string[]): void {
  const passOn = server.listeners('connection') as ((socket: Socket) => void)[] // what a net.Server calls
  const isProxy = proxyTest(proxies)
  server.removeAllListeners('connection')
  server.on('connection', (socket: Socket) => {
    const source = sourceAddress(socket.remoteAddress)
    socket.on('error', ignore)
    if (!connections.accept(socket, isProxy(source) ? undefined : source)) return
    for (const listener of passOn) listener.call(server, socket)
  })
  connections.watch(server)
}

/** A socket that ends with an error is told by its end. */
function ignore(): void {}
