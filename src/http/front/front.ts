import type { Server } from 'node:https'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { sourceAddress } from '../../domain/address.ts'
import { findHello } from '../../handshake/client-hello.ts'
import type { HandshakeCause } from '../../handshake/diagnosis.ts'
import { looksProxied, readProxyHeader } from '../../handshake/proxy-header.ts'
import { type Arrival, type Entry, entryFrom, nothing, proxyTest, rename } from './arrival.ts'

/**
 * Stands in front of the boot listener's TLS. Each connection is looked at before OpenSSL gets it:
 *
 *   accepted ──▶ PROXY header (from proxyProtocolFrom: it must be there; from others it is not looked for)
 *            ──▶ ClientHello (whole, or it is no hello) ──▶ the server's own listener, with every byte put back ──▶ TLS
 *
 * The hello is kept until the handshake is over, so that a failure can be explained; then nothing of this is left: no timer, no
 * buffer, no listener. It costs a connection one more event and one look. What cannot be read goes to TLS as it is.
 */
export interface Front {
  /** Connections that have not finished their handshake. */
  readonly halfOpen: () => number
  /** Cuts off those that TLS does not have yet, and ends the timer. */
  close(): void
}

/** Bounds; what is reached costs the connection, never the server. */
export interface FrontLimits {
  /** A PROXY header must be there by then: the proxy sends it with its first packet. */
  readonly headerMilliseconds: number
  /** A whole hello must be there by then. TLS has a limit of its own for the rest. */
  readonly helloMilliseconds: number
  /** Connections in their handshake. One more cuts off the oldest: a flood makes room for itself, not for ever. */
  readonly maxHalfOpen: number
  /** Memory for hellos that have not come whole, of all connections. One more is not looked at. */
  readonly maxHeldBytes: number
}

/** The bounds that a server has. */
export const frontLimits: Omit<FrontLimits, 'maxHalfOpen'> = {
  headerMilliseconds: 3000,
  helloMilliseconds: 10_000,
  maxHeldBytes: 32 * 1024 * 1024,
}

/** What the front is made of. */
export interface FrontOptions {
  /** Prefixes of proxies that speak the PROXY protocol. */
  readonly proxies: readonly string[]
  readonly limits: FrontLimits
  /** A connection came to nothing: by this front, or, with an error, in TLS. */
  readonly onFault: (arrival: Arrival, error: Error | undefined) => void
  /** Called with the hello, where there is one, at once before TLS gets the connection. */
  readonly beforeTls?: ((hello: Buffer | undefined) => void) | undefined
}

const firstBytes = 16
const sweepMilliseconds = 500

/** Puts the front before a server that does not listen yet. */
export function openFront(server: Server, options: FrontOptions): Front {
  const { proxies, limits, onFault, beforeTls } = options
  const passOn = server.listeners('connection') as ((socket: Socket) => void)[] // what a net.Server calls
  const isProxy = proxyTest(proxies)
  // Both in the order of arrival: the oldest is first.
  const waiting = new Map<Socket, Entry>()
  const shaking = new Map<Socket, Entry>()
  let heldBytes = 0
  let timer: NodeJS.Timeout | undefined
  let closed = false

  function accept(socket: Socket): void {
    // Who is gone already has no address any more: HAProxy's checks end so, and whose they were cannot be known.
    if (closed || socket.remoteAddress === undefined) {
      socket.on('error', ignore).destroy()
      return
    }
    makeRoom()
    const source = sourceAddress(socket.remoteAddress)
    const entry = entryFrom(source, isProxy(source))
    waiting.set(socket, entry)
    socket.on('error', ignore).on('data', take).once('end', hungUp).once('close', hungUp)
    timer ??= setInterval(sweep, sweepMilliseconds).unref()
  }

  function take(this: Socket, chunk: Buffer): void {
    const entry = waiting.get(this)
    if (entry === undefined) return
    // Nearly always the first chunk is all there is to see: then nothing is copied.
    const bytes = entry.length === 0 && chunk.length >= entry.need ? chunk : keep(entry, chunk)
    if (bytes.length < entry.need) return
    const left = entry.awaitsHeader ? readHeader(this, entry, bytes) : bytes
    if (left === undefined) return
    look(this, entry, left)
  }

  /** The bytes after the PROXY header; undefined where it is not there yet, or wrong. */
  function readHeader(socket: Socket, entry: Entry, bytes: Buffer): Buffer | undefined {
    const found = readProxyHeader(bytes)
    if (found.state === 'more') return wait(entry, bytes, found.need)
    if (found.state === 'bad') {
      entry.detail = found.reason
      return cutOff(socket, entry, looksProxied(bytes) ? 'proxy-header-bad' : 'proxy-header-missing')
    }
    entry.awaitsHeader = false
    entry.proxyItself = found.source === undefined
    entry.proxied = found.source
    if (found.source !== undefined) {
      entry.via = entry.source
      entry.source = found.source.address
    }
    const left = bytes.subarray(found.length)
    release(entry)
    return left.length === 0 ? wait(entry, left, 1) : left
  }

  function look(socket: Socket, entry: Entry, bytes: Buffer): void {
    const found = heldBytes > limits.maxHeldBytes ? { state: 'other' as const } : findHello(bytes)
    if (found.state === 'more') {
      wait(entry, bytes, found.need)
      return
    }
    if (found.state === 'hello') entry.hello = found.message
    else entry.first = Buffer.from(bytes.subarray(0, firstBytes))
    release(entry)
    waiting.delete(socket)
    shaking.set(socket, entry)
    socket.off('data', take).off('end', hungUp).off('close', hungUp)
    socket.pause()
    socket.unshift(bytes)
    beforeTls?.(entry.hello)
    for (const listener of passOn) listener.call(server, socket)
  }

  function wait(entry: Entry, bytes: Buffer, need: number): undefined {
    entry.need = need
    if (entry.length === 0 && bytes.length > 0) keep(entry, bytes)
    return undefined
  }

  /** Copies a chunk behind what is there: many small chunks cost no more than their bytes. */
  function keep(entry: Entry, chunk: Buffer): Buffer {
    const length = entry.length + chunk.length
    if (length > entry.held.length) {
      const room = Buffer.allocUnsafeSlow(Math.max(512, 2 * length))
      entry.held.copy(room, 0, 0, entry.length)
      heldBytes += room.length - entry.held.length
      entry.held = room
    }
    chunk.copy(entry.held, entry.length)
    entry.length = length
    return entry.held.subarray(0, length)
  }

  function release(entry: Entry): void {
    heldBytes -= entry.held.length
    entry.held = nothing
    entry.length = 0
    entry.need = 1
  }

  function hungUp(this: Socket): void {
    const entry = waiting.get(this)
    if (entry === undefined) return
    // Proxies look whether we are there, with a header of their own or without one: nothing went wrong.
    const isCheck = entry.length === 0 && (entry.awaitsHeader || entry.proxyItself)
    forget(this, entry)
    this.destroy()
    if (!isCheck) onFault({ ...entry, early: 'hung-up-early' }, undefined)
  }

  function cutOff(socket: Socket, entry: Entry, cause: HandshakeCause): undefined {
    forget(socket, entry)
    socket.destroy()
    onFault({ ...entry, early: cause }, undefined)
    return undefined
  }

  function forget(socket: Socket, entry: Entry): void {
    release(entry)
    waiting.delete(socket)
    socket.off('data', take).off('end', hungUp).off('close', hungUp)
  }

  function sweep(): void {
    const now = performance.now()
    for (const [socket, entry] of waiting) {
      const age = now - entry.acceptedAt
      if (age < limits.headerMilliseconds && age < limits.helloMilliseconds) break // all behind it are younger
      if (entry.awaitsHeader && age >= limits.headerMilliseconds) {
        entry.detail = 'it did not come in time'
        cutOff(socket, entry, 'proxy-header-missing')
      } else if (age >= limits.helloMilliseconds) cutOff(socket, entry, 'timed-out-early')
    }
    if (waiting.size === 0) stopTimer()
  }

  function makeRoom(): void {
    if (waiting.size + shaking.size < limits.maxHalfOpen) return
    for (const [socket, entry] of waiting) {
      cutOff(socket, entry, 'too-many')
      return
    }
    for (const [socket, entry] of shaking) {
      entry.early = 'too-many' // its end in TLS tells
      shaking.delete(socket)
      ended.set(socket, entry)
      socket.destroy()
      return
    }
  }

  /** Cut off in TLS by us, until TLS has noticed. */
  const ended = new WeakMap<Socket, Entry>()

  function takeEntry(socket: TLSSocket): Entry | undefined {
    const raw = rawOf(socket)
    if (raw === undefined) return undefined
    const entry = shaking.get(raw) ?? ended.get(raw)
    shaking.delete(raw)
    ended.delete(raw)
    return entry
  }

  function stopTimer(): void {
    clearInterval(timer)
    timer = undefined
  }

  server.removeAllListeners('connection')
  server.on('connection', accept)
  // Before HTTP gets it: a request must never see the proxy's address as its client's.
  server.prependListener('secureConnection', (socket: TLSSocket) => {
    const proxied = takeEntry(socket)?.proxied
    if (proxied !== undefined) rename(socket, proxied)
  })
  server.on('tlsClientError', (error: Error, socket: TLSSocket) => {
    const entry = takeEntry(socket) ?? entryFrom(sourceAddress(socket.remoteAddress), false)
    onFault(entry, error)
  })
  return {
    halfOpen: () => waiting.size + shaking.size,
    close() {
      closed = true
      stopTimer()
      for (const [socket, entry] of waiting) {
        forget(socket, entry)
        socket.destroy()
      }
    },
  }
}

/** A socket that ends with an error is told by its end. */
function ignore(): void {}

/** The connection below TLS. Node names it so since 0.12, and has no other way to it; a test looks whether it still does. */
function rawOf(socket: TLSSocket): Socket | undefined {
  return (socket as unknown as { _parent?: Socket })._parent
}
