import type { Server } from 'node:https'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { countingUnit, sourceAddress } from '../../domain/address.ts'
import { findHello } from '../../handshake/client-hello.ts'
import type { HandshakeCause } from '../../handshake/diagnosis.ts'
import { looksProxied, readProxyHeader } from '../../handshake/proxy-header.ts'
import { belowTls } from '../connections.ts'
import { openCount } from '../count.ts'
import { openHeld } from './held.ts'
import type { FrontOptions } from './limits.ts'
import { type Entry, entryFrom, proxyTest, rename } from './pending-connection.ts'
import { openTurns } from './turns.ts'

/**
 * Stands in front of the boot listener's TLS. Each connection is looked at before OpenSSL gets it:
 *
 *   accepted ──▶ PROXY header (from proxyProtocolFrom: it must be there; from others it is not looked for)
 *            ──▶ ClientHello (whole, or it is no hello) ──▶ its turn (turns.ts), when many come at once
 *            ──▶ the server's own listener, with every byte put back ──▶ TLS
 *
 * The hello is kept until the handshake is over, so that a failure can be explained; then nothing of this is left: no timer, no
 * buffer, no listener. It costs a connection one more event and one look. What cannot be read goes to TLS as it is.
 */
export interface Front {
  /** Connections that have not finished their handshake. */
  readonly halfOpen: () => number
  /** Of those, the ones that wait for their turn. */
  readonly waiting: () => number
  /** Cuts off those that TLS does not have yet, and ends the timer. */
  close(): void
}

const firstBytes = 16
/** Who has a whole hello and waits for a turn sends no more than this, the longest hello and a little. */
const maxOfReady = 80 * 1024
/** A handshake goes to and fro once or twice: one that has taken so long waits for its client. */
const slowMilliseconds = 2000
const sweepMilliseconds = 500

/** Puts the front before a server that does not listen yet. */
export function openFront(server: Server, options: FrontOptions): Front {
  const { proxies, limits, onFault, beforeTls, connections } = options
  const passOn = server.listeners('connection') as ((socket: Socket) => void)[] // what a net.Server calls
  const isProxy = proxyTest(proxies)
  // In the order of arrival, the oldest first: without a whole hello, with one and without its turn yet, and in TLS.
  const waiting = new Map<Socket, Entry>()
  const lined = new Map<Socket, Entry>()
  const shaking = new Map<Socket, Entry>()
  const turns = openTurns()
  const held = openHeld()
  const byUnit = openCount()
  let timer: NodeJS.Timeout | undefined
  let closed = false

  const halfOpen = (): number => waiting.size + lined.size + shaking.size

  function accept(socket: Socket): void {
    // Who is gone already has no address any more: HAProxy's checks end so, and whose they were cannot be known.
    if (closed || socket.remoteAddress === undefined) {
      socket.on('error', ignore).destroy()
      return
    }
    const source = sourceAddress(socket.remoteAddress)
    const entry = entryFrom(source, isProxy(source))
    if (connections?.accept(socket.on('error', ignore), entry.awaitsHeader ? undefined : source) === false)
      return
    makeRoom()
    if (!entry.awaitsHeader && !countOf(socket, entry)) return
    waiting.set(socket, entry)
    socket.on('data', take).on('end', hungUp).on('close', hungUp)
    timer ??= setInterval(sweep, sweepMilliseconds).unref()
  }

  /** Counts a half-open connection for its client; false where that was one too many. */
  function countOf(socket: Socket, entry: Entry): boolean {
    const unit = countingUnit(entry.source)
    if (byUnit.of(unit) >= limits.maxOfAddress) {
      connections?.noteClosed('handshakes-of-address')
      socket.resetAndDestroy()
      return false
    }
    entry.unit = unit
    byUnit.add(unit, 1)
    return true
  }

  function take(this: Socket, chunk: Buffer): void {
    const ready = lined.get(this)
    // What it sends behind its hello TLS will get; nobody who waits for our answer has much to send.
    if (ready !== undefined && held.keep(ready, chunk).length > maxOfReady) cutOff(this, ready, 'too-many')
    const entry = waiting.get(this)
    if (entry === undefined) return
    // Nearly always the first chunk is all there is to see: then nothing is copied.
    const bytes = entry.length === 0 && chunk.length >= entry.need ? chunk : held.keep(entry, chunk)
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
      if (!countProxied(socket, entry)) return undefined
    }
    const left = bytes.subarray(found.length)
    held.release(entry)
    return left.length === 0 ? wait(entry, left, 1) : left
  }

  function look(socket: Socket, entry: Entry, bytes: Buffer): void {
    const found = held.bytes() > limits.maxHeldBytes ? { state: 'other' as const } : findHello(bytes)
    if (found.state === 'more') {
      wait(entry, bytes, found.need)
      return
    }
    if (found.state === 'hello') entry.hello = found.message
    else entry.first = Buffer.from(bytes.subarray(0, firstBytes))
    held.hold(entry, bytes)
    waiting.delete(socket)
    lined.set(socket, entry)
    turns.push(socket, entry.source, () => begin(socket, entry))
  }

  function begin(socket: Socket, entry: Entry): void {
    const bytes = entry.held.subarray(0, entry.length)
    held.release(entry)
    lined.delete(socket)
    entry.begunAt = performance.now()
    shaking.set(socket, entry)
    socket.off('data', take).off('end', hungUp).off('close', hungUp)
    socket.pause()
    socket.unshift(bytes)
    beforeTls?.(entry.hello)
    for (const listener of passOn) listener.call(server, socket)
  }

  function countProxied(socket: Socket, entry: Entry): boolean {
    if (connections?.countFor(socket, entry.source) !== false && countOf(socket, entry)) return true
    forget(socket, entry)
    return false
  }

  function wait(entry: Entry, bytes: Buffer, need: number): undefined {
    entry.need = need
    if (entry.length === 0 && bytes.length > 0) held.keep(entry, bytes)
    return undefined
  }

  function hungUp(this: Socket): void {
    const ready = lined.get(this)
    // It did not wait for its turn: that is our doing, and no fault of its.
    if (ready !== undefined) {
      forget(this, ready)
      this.destroy()
    }
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
    held.release(entry)
    uncount(entry)
    waiting.delete(socket)
    lined.delete(socket)
    turns.leave(socket)
    socket.off('data', take).off('end', hungUp).off('close', hungUp)
  }

  function uncount(entry: Entry): void {
    if (entry.unit !== undefined) byUnit.add(entry.unit, -1)
    entry.unit = undefined
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

  /**
   * Who says no whole hello goes first, and then who does not go on with the handshake. Where all do what they should, there
   * are too many: of the site that has most of those that wait, the newest.
   */
  function makeRoom(): void {
    if (halfOpen() < limits.maxHalfOpen) return
    const [silent] = waiting
    const [begun] = shaking
    const late = performance.now() - slowMilliseconds
    const newest = turns.newestOfLargest()
    if (silent !== undefined && silent[1].acceptedAt < late) cutOff(...silent, 'too-many')
    else if (begun !== undefined && (begun[1].begunAt ?? late) < late) cutOffInTls(...begun)
    else if (newest !== undefined) sendAway(newest)
    else if (silent !== undefined) cutOff(...silent, 'too-many')
    else if (begun !== undefined) cutOffInTls(...begun)
  }

  function sendAway(socket: Socket): void {
    const entry = lined.get(socket)
    if (entry !== undefined) forget(socket, entry)
    connections?.noteClosed('connections')
    socket.resetAndDestroy()
  }

  function cutOffInTls(socket: Socket, entry: Entry): void {
    entry.early = 'too-many' // its end in TLS tells
    shaking.delete(socket)
    uncount(entry)
    ended.set(socket, entry)
    socket.destroy()
  }

  /** Cut off in TLS by us, until TLS has noticed. */
  const ended = new WeakMap<Socket, Entry>()

  function takeEntry(socket: TLSSocket): Entry | undefined {
    const raw = belowTls(socket)
    if (raw === undefined) return undefined
    const entry = shaking.get(raw) ?? ended.get(raw)
    shaking.delete(raw)
    ended.delete(raw)
    if (entry !== undefined) uncount(entry)
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
    halfOpen,
    waiting: turns.waiting,
    close() {
      closed = true
      stopTimer()
      turns.close()
      for (const [socket, entry] of [...waiting, ...lined]) {
        forget(socket, entry)
        socket.destroy()
      }
    },
  }
}

/** A socket that ends with an error is told by its end. */
function ignore(): void {}
