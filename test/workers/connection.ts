import { once } from 'node:events'
import { connect, type TLSSocket } from 'node:tls'
import type { Server } from './installation.ts'

/** A kept connection to one worker: a client that asks one thing after another, as iPXE and our agents do. */
export interface Connection {
  readonly socket: TLSSocket
  /** Which worker answers it. */
  readonly worker: number
  ask(method: string, path: string, headers?: Record<string, string>, body?: string): Promise<Answer>
}

/** One answer. */
export interface Answer {
  readonly status: number
  readonly text: string
}

/** What a client brings along; left out: what it knows of a new server. */
export interface OpenOptions {
  readonly session?: Buffer
  readonly maxVersion?: 'TLSv1.2' | 'TLSv1.3'
  readonly port?: number
  readonly ca?: string
}

/** Opens a connection, resuming a session where one is given, and finds out whose it is. Throws where it is not trusted. */
export async function open(server: Server, options: OpenOptions = {}): Promise<Connection> {
  const socket = connect({
    host: '127.0.0.1',
    port: server.port,
    ca: server.ca,
    servername: 'localhost',
    ...options,
  })
  await once(socket, 'secureConnect')
  socket.on('error', () => {})
  const ask: Connection['ask'] = (method, path, headers = {}, body = '') =>
    askOn(socket, method, path, headers, body)
  const since = server.lines.length
  // Nobody else asks for a path that is not there: the next line about one is ours.
  await ask('GET', '/who-answers')
  const line = await server.line(({ route }) => route === 'none', since)
  return { socket, worker: Number(line.worker), ask }
}

/** Connections to each of the workers, so many. */
export async function openToEach(
  server: Server,
  workers: number,
  each: number,
  options: OpenOptions = {},
): Promise<Connection[]> {
  const kept: Connection[] = []
  while (kept.length < workers * each) {
    const one = await open(server, options)
    if (kept.filter(({ worker }) => worker === one.worker).length < each) kept.push(one)
    else one.socket.destroy()
  }
  return kept
}

/** The session that a client may go on with; TLS 1.3 sends it behind the handshake. */
export async function sessionOf({ socket, ask }: Connection): Promise<Buffer> {
  let session = socket.getSession()
  socket.on('session', (fresh) => {
    session = fresh
  })
  await ask('GET', '/_ah/health')
  if (session === undefined) throw new Error('no session')
  return session
}

async function askOn(
  socket: TLSSocket,
  method: string,
  path: string,
  headers: Record<string, string>,
  body: string,
): Promise<Answer> {
  const all = { host: 'localhost', 'content-length': String(Buffer.byteLength(body)), ...headers }
  const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  let text = ''
  const answered = new Promise<Answer>((resolve, reject) => {
    const take = (chunk: Buffer): void => {
      text += chunk.toString('latin1')
      const end = text.indexOf('\r\n\r\n')
      if (end < 0) return
      const length = Number(/content-length: (\d+)/i.exec(text.slice(0, end))?.[1] ?? 0)
      if (text.length < end + 4 + length) return
      socket.off('data', take).off('close', lost)
      resolve({ status: Number(text.slice(9, 12)), text: text.slice(end + 4) })
    }
    const lost = (): void => reject(new Error('cut'))
    socket.on('data', take).once('close', lost)
  })
  socket.write(`${method} ${path} HTTP/1.1\r\n${head.join('')}\r\n${body}`)
  return answered
}
