import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { readServerFlight, type ServerFlight } from '../handshake/server-flight.ts'
import { localProxyHeader } from './boot-target.ts'

/** Where hellos are replayed to. */
export interface ReplayTarget {
  readonly host: string
  readonly port: number
  /** Begin with a PROXY header that says LOCAL: the listener expects one from this address. */
  readonly proxyProtocol: boolean
}

/** How it went. */
export type Replayed =
  | { readonly kind: 'answered'; readonly flight: ServerFlight }
  /** The server hung up without a word, or said nothing in time. */
  | { readonly kind: 'closed' | 'silent'; readonly flight: ServerFlight }
  | { readonly kind: 'unreachable'; readonly reason: string }

const patience = 5000
const maxAnswerBytes = 256 * 1024
/**
 * How we part, so that the server's record can tell us from a client that does not trust it: a fatal alert that no client has sent
 * for years (111, certificate_unobtainable). Of TLS 1.3 OpenSSL passes over user_canceled.
 */
const goodbye = Buffer.from('1503030002026f', 'hex')

/** Says a hello over a connection of its own, and reads the answer. */
export async function replay(hello: Buffer, target: ReplayTarget): Promise<Replayed> {
  const socket = connect({ host: target.host, port: target.port, noDelay: true })
  socket.on('error', () => {}) // told by what waits; one may come later, too
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(patience) })
  } catch (error) {
    socket.destroy()
    const code = (error as { code?: unknown }).code
    return { kind: 'unreachable', reason: code === 'ABORT_ERR' ? 'no answer' : String(code ?? 'failed') }
  }
  socket.write(target.proxyProtocol ? Buffer.concat([localProxyHeader, hello]) : hello)
  const replayed = await readAnswer(socket)
  socket.end(goodbye)
  setTimeout(() => socket.destroy(), 200).unref()
  return replayed
}

function readAnswer(socket: Socket): Promise<Replayed> {
  return new Promise((resolve) => {
    let bytes = Buffer.alloc(0)
    const finish = (kind: 'answered' | 'closed' | 'silent'): void => {
      clearTimeout(timer)
      resolve({ kind, flight: readServerFlight(bytes) })
    }
    const timer = setTimeout(() => finish('silent'), patience)
    socket.on('data', (chunk: Buffer) => {
      if (bytes.length < maxAnswerBytes) bytes = Buffer.concat([bytes, chunk])
      if (readServerFlight(bytes).complete || bytes.length >= maxAnswerBytes) finish('answered')
    })
    socket.once('close', () => finish('closed'))
    socket.once('end', () => finish('closed'))
  })
}
