import type { Socket } from 'node:net'
import { connect as connectTcp } from 'node:net'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'

/** How a client speaks TLS. */
export interface TlsWish {
  readonly port: number
  readonly ca: string
  /** `rsa` and `ecdsa` are TLS 1.2 with that certificate and AES-128-GCM, as boot firmware; `modern` is TLS 1.3. `none` is plain. */
  readonly kind: 'rsa' | 'ecdsa' | 'modern' | 'none'
}

/** One answer. */
export interface Answer {
  readonly status: number
  readonly body: string
}

/** A connection that takes one request after the other. */
export interface Connection {
  readonly socket: Socket
  /** The session to resume, of the newest ticket. */
  session(): Buffer | undefined
  /** Sends a request as it stands; rejects when the connection ends before the whole answer. */
  ask(request: string): Promise<Answer>
  end(): void
}

const suites = { rsa: 'ECDHE-RSA-AES128-GCM-SHA256', ecdsa: 'ECDHE-ECDSA-AES128-GCM-SHA256' }

/** Opens a connection on `node:tls` alone: of all clients here it costs least. */
export function openConnection(wish: TlsWish, session?: Buffer): Promise<Connection> {
  return new Promise((resolve, reject) => {
    let newest: Buffer | undefined
    const socket =
      wish.kind === 'none'
        ? connectTcp({ host: '127.0.0.1', port: wish.port })
        : connect(optionsOf(wish, session))
    socket.once('error', reject)
    socket.once(wish.kind === 'none' ? 'connect' : 'secureConnect', () => {
      if (session !== undefined && !(socket as TLSSocket).isSessionReused())
        reject(new Error('the server did not resume the session'))
      socket.off('error', reject)
      resolve({ socket, session: () => newest, ask: askOn(socket), end: () => socket.destroy() })
    })
    socket.on('session', (ticket) => {
      newest = ticket
    })
    socket.setNoDelay(true)
  })
}

function optionsOf({ port, ca, kind }: TlsWish, session: Buffer | undefined): ConnectionOptions {
  const version: ConnectionOptions =
    kind === 'rsa' || kind === 'ecdsa'
      ? { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2', ciphers: suites[kind] }
      : { minVersion: 'TLSv1.3' }
  return {
    host: '127.0.0.1',
    port,
    ca,
    servername: 'localhost',
    ...version,
    ...(session === undefined ? {} : { session }),
  }
}

function askOn(socket: Socket): (request: string) => Promise<Answer> {
  let parts: string[] = []
  let bytes = 0
  let needed: number | undefined
  let settle: { resolve(answer: Answer): void; reject(error: Error): void } | undefined
  socket.setEncoding('latin1')
  socket.on('data', (part: string) => {
    parts.push(part)
    bytes += part.length
    needed ??= lengthOf(parts.join(''))
    if (needed === undefined || bytes < needed) return
    const text = parts.join('')
    parts = []
    bytes = 0
    needed = undefined
    settle?.resolve({ status: Number(text.slice(9, 12)), body: text.slice(text.indexOf('\r\n\r\n') + 4) })
  })
  const lost = (error?: Error | boolean): void =>
    settle?.reject(error instanceof Error ? error : new Error('the connection ended'))
  socket.on('error', lost)
  socket.on('close', lost)
  return (request) =>
    new Promise((resolve, reject) => {
      settle = { resolve, reject }
      socket.write(request)
    })
}

/** How long the answer becomes, once its head is there; without a Content-Length it has no body. */
function lengthOf(text: string): number | undefined {
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) return undefined
  return end + 4 + Number(/\r\ncontent-length: *(\d+)/i.exec(text.slice(0, end))?.[1] ?? 0)
}

/** A request as it is on the wire. */
export function requestText(
  method: string,
  path: string,
  headers: Readonly<Record<string, string>> = {},
  body = '',
): string {
  const all = {
    Host: 'localhost',
    ...headers,
    ...(method === 'GET' ? {} : { 'Content-Length': `${body.length}` }),
  }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`
}
