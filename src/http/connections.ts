import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import type { Socket } from 'node:net'
import { countingUnit } from '../domain/address.ts'
import { type ConnectionLimit, connectionLimits } from '../domain/load.ts'

/** Bounds on connections. Addresses are counted by IPv4 address or IPv6 /64. */
export interface ConnectionLimits {
  readonly maxConnections: number
  readonly maxConnectionsPerAddress: number
  /** A second; ten times as many at once. */
  readonly maxNewConnectionsPerAddress: number
}

/**
 * The connections of a listener, counted by address. Where all places are taken, the one that is idle longest makes room: machines
 * ask at once when their handshake is over, so it is those that hold connections open for nothing. Where none is idle, it is the one
 * that has not sent its whole request for longest: a machine's comes with its head, and who drips one holds its place no better. Where
 * there is none either, those that have taken no byte of their answer for ten seconds.
 */
export interface Connections {
  /** Takes a connection that was accepted, or closes it: false. Who is behind a proxy is not known yet: no address. */
  accept(socket: Socket, address: string | undefined): boolean
  /** Counts a connection for the client that its proxy has told; false where that closed it. */
  countFor(socket: Socket, address: string): boolean
  /** Watches requests, to know who is idle, and closes who has too many under way: nobody who boots sends one ahead. */
  watch(server: HttpsServer): void
  /** Whoever asks has proved who he is: he makes no room, however long he sends. */
  keep(request: IncomingMessage): void
  readonly count: () => number
  readonly closed: () => Readonly<Record<ConnectionLimit, number>>
  /** Counts one that another limit closed. */
  noteClosed(limit: ConnectionLimit): void
}

interface Known {
  unit: string | undefined
}

interface Bucket {
  left: number
  at: number
}

const burstSeconds = 10
/** Requests of one connection that are under way. HTTP/1.1 clients may send ahead; those that boot do not. */
const maxRequestsAtOnce = 16
const maxBuckets = 20_000
/** Who has taken no byte for so long does not read. */
const stallSeconds = 10
const lookAgainSeconds = 1
const notLooked = -1

/** Opens the count. `now` is in seconds. */
export function openConnections(
  limits: ConnectionLimits,
  now: () => number = () => performance.now() / 1000,
): Connections {
  const known = new Map<Socket, Known>()
  const byUnit = new Map<string, number>()
  const buckets = new Map<string, Bucket>()
  /** Those without a request, the one that is idle longest first. */
  const idle = new Set<Socket>()
  /** Requests whose body is still to come, the one that sends longest first. */
  const sending = new Set<IncomingMessage>()
  /** Of each connection the answers that are not over, with their requests. */
  const underWay = new WeakMap<Socket, Map<ServerResponse, IncomingMessage>>()
  /** Those whose answer is not over, with what had gone on them when they were looked at last. */
  const answering = new Map<Socket, { sent: number; movedAt: number }>()
  let lookedAt = Number.NEGATIVE_INFINITY
  const closed = Object.fromEntries(connectionLimits.map((limit) => [limit, 0])) as Record<
    ConnectionLimit,
    number
  >

  function refuse(socket: Socket, limit: ConnectionLimit): false {
    closed[limit] += 1
    forget(socket)
    // With a reset: nothing of it stays in the kernel.
    socket.resetAndDestroy()
    return false
  }

  function forget(socket: Socket): void {
    const unit = known.get(socket)?.unit
    known.delete(socket)
    if (unit === undefined) return
    const left = (byUnit.get(unit) ?? 1) - 1
    if (left === 0) byUnit.delete(unit)
    else byUnit.set(unit, left)
  }

  function gone(this: Socket): void {
    forget(this)
  }

  function ended(this: Socket): void {
    leave(this)
    // Behind Node, which knows this event too.
    queueMicrotask(() => {
      for (const response of underWay.get(this)?.keys() ?? []) closeQueued(response)
    })
  }

  function leave(socket: Socket): void {
    idle.delete(socket)
    answering.delete(socket)
    for (const request of underWay.get(socket)?.values() ?? []) sending.delete(request)
  }

  function received(this: IncomingMessage): void {
    sending.delete(this)
  }

  function makeRoom(): boolean {
    for (const socket of [firstOf(idle), firstOf(sending)?.socket]) {
      if (socket === undefined) continue
      makePlaceOf(socket)
      return true
    }
    return cutDeaf()
  }

  function makePlaceOf(socket: Socket): void {
    leave(socket)
    const below = belowTls(socket)
    if (below !== undefined) forget(below)
    closed.connections += 1
    socket.destroy()
  }

  /** Closes all that do not read; false where there was none. */
  function cutDeaf(): boolean {
    const at = now()
    if (at - lookedAt < lookAgainSeconds) return false
    lookedAt = at
    const deaf: Socket[] = []
    for (const [socket, seen] of answering) {
      const { bytesWritten, writableLength } = socket
      if (bytesWritten !== seen.sent) Object.assign(seen, { sent: bytesWritten, movedAt: at })
      else if (writableLength > 0 && at - seen.movedAt >= stallSeconds) deaf.push(socket)
    }
    for (const socket of deaf) makePlaceOf(socket)
    return deaf.length > 0
  }

  function forgetQuietest(): void {
    const [quietest] = buckets.keys()
    if (quietest !== undefined) buckets.delete(quietest)
  }

  /** A bucket of `burstSeconds`, which fills as fast as the limit says. */
  function isTooFast(unit: string): boolean {
    const perSecond = limits.maxNewConnectionsPerAddress
    const most = perSecond * burstSeconds
    const at = now()
    const bucket = buckets.get(unit) ?? { left: most, at }
    bucket.left = Math.min(most, bucket.left + (at - bucket.at) * perSecond)
    bucket.at = at
    buckets.delete(unit)
    buckets.set(unit, bucket) // behind the others: the first is the one that was quiet longest
    if (buckets.size > maxBuckets) forgetQuietest()
    if (bucket.left < 1) return true
    bucket.left -= 1
    return false
  }

  function countFor(socket: Socket, address: string): boolean {
    const unit = countingUnit(address)
    const of = byUnit.get(unit) ?? 0
    if (of >= limits.maxConnectionsPerAddress) return refuse(socket, 'connections-of-address')
    if (isTooFast(unit)) return refuse(socket, 'new-connections-of-address')
    const entry = known.get(socket)
    if (entry === undefined) return true // closed already
    entry.unit = unit
    byUnit.set(unit, of + 1)
    return true
  }

  function begun(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    idle.delete(socket)
    if (!answering.has(socket)) answering.set(socket, { sent: notLooked, movedAt: 0 })
    const requests = underWay.get(socket) ?? new Map<ServerResponse, IncomingMessage>()
    underWay.set(socket, requests.set(response, request))
    if (requests.size <= maxRequestsAtOnce || socket.destroyed) return
    closed['requests-at-once'] += 1
    socket.destroy()
  }

  function over(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    sending.delete(request)
    const requests = underWay.get(socket)
    requests?.delete(response)
    if (requests?.size !== 0) return
    underWay.delete(socket)
    answering.delete(socket)
    if (!socket.destroyed) idle.add(socket)
  }

  return {
    accept(socket, address) {
      if (known.size >= limits.maxConnections && !makeRoom()) return refuse(socket, 'connections')
      known.set(socket, { unit: undefined })
      if (address !== undefined && !countFor(socket, address)) return false
      socket.on('close', gone)
      return true
    },
    countFor,
    watch(server) {
      server.prependListener('secureConnection', (socket) => {
        idle.add(socket)
        socket.on('close', ended)
      })
      server.prependListener('request', (request, response) => {
        begun(request, response)
        if (hasBody(request)) {
          sending.add(request)
          request.on('end', received)
        }
        response.on('close', () => over(request, response))
      })
    },
    keep: (request) => void sending.delete(request),
    count: () => known.size,
    closed: () => ({ ...closed }),
    noteClosed: (limit) => {
      closed[limit] += 1
    },
  }
}

/**
 * When a connection ends, Node 22 closes the answer whose turn it is, and Node 24 all. Those behind it, of requests that were sent ahead,
 * would wait for ever, and keep what they hold: a place among the downloads, room for a body.
 */
function closeQueued(response: ServerResponse): void {
  if (response.socket !== null || response.closed) return
  response.destroy()
  response.emit('close')
}

function firstOf<Item>(items: ReadonlySet<Item>): Item | undefined {
  for (const item of items) return item
  return undefined
}

/** Whether more is to come behind the head. */
function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/** The connection below TLS. Node names it so since 0.12, and has no other way to it; a test looks whether it still does. */
export function belowTls(socket: Socket): Socket | undefined {
  return (socket as unknown as { _parent?: Socket })._parent
}
