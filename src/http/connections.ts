import type { IncomingMessage } from 'node:http'
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
 * that has not sent its whole request for longest: a machine's comes with its head, and who drips one holds its place no better.
 */
export interface Connections {
  /** Takes a connection that was accepted, or closes it: false. Who is behind a proxy is not known yet: no address. */
  accept(socket: Socket, address: string | undefined): boolean
  /** Counts a connection for the client that its proxy has told; false where that closed it. */
  countFor(socket: Socket, address: string): boolean
  /** Watches requests, to know who is idle, and closes who has too many under way: nobody who boots sends one ahead. */
  watch(server: HttpsServer): void
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
  /** Those whose request has a body that is still to come, the one that sends longest first. */
  const sending = new Set<Socket>()
  const underWay = new WeakMap<Socket, number>()
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
    idle.delete(this)
    sending.delete(this)
  }

  function received(this: IncomingMessage): void {
    sending.delete(this.socket)
  }

  function makeRoom(): boolean {
    for (const socket of [firstOf(idle), firstOf(sending)]) {
      if (socket === undefined) continue
      idle.delete(socket)
      sending.delete(socket)
      const below = belowTls(socket)
      if (below !== undefined) forget(below)
      closed.connections += 1
      socket.destroy()
      return true
    }
    return false
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

  function begun(socket: Socket): void {
    idle.delete(socket)
    const requests = (underWay.get(socket) ?? 0) + 1
    underWay.set(socket, requests)
    if (requests <= maxRequestsAtOnce || socket.destroyed) return
    closed['requests-at-once'] += 1
    socket.destroy()
  }

  function over(socket: Socket): void {
    const left = (underWay.get(socket) ?? 1) - 1
    underWay.set(socket, left)
    sending.delete(socket)
    if (left === 0 && !socket.destroyed) idle.add(socket)
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
        const { socket } = request
        begun(socket)
        if (hasBody(request)) {
          sending.add(socket)
          request.on('end', received)
        }
        response.on('close', () => over(socket))
      })
    },
    count: () => known.size,
    closed: () => ({ ...closed }),
    noteClosed: (limit) => {
      closed[limit] += 1
    },
  }
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
