import { randomInt } from 'node:crypto'
import type { RemoteInfo, Socket } from 'node:dgram'
import type { AddressInfo } from 'node:net'
import type { Logger } from 'pino'
import { canonicalAddress, countingUnit } from '../domain/address.ts'
import type { TftpMeter, TftpRefusal } from '../domain/meters.ts'
import { openPacketCache } from './blocks.ts'
import { openDeadlines } from './deadlines.ts'
import type { TftpFile, TftpFiles } from './files.ts'
import { openBudget } from './limits.ts'
import { negotiate, type OptionLimits } from './negotiate.ts'
import { ackedBlock, encodePacket, isError, isOfTransfer, type Packet, parsePacket } from './packet.ts'
import {
  addPeer,
  addressOf,
  findPeer,
  hasRoom,
  openListener,
  openSocket,
  removePeer,
  send,
  type TransferPort,
} from './ports.ts'
import { type Active, openTable, type Peer, type TableLimits } from './table.ts'
import { ackedBytes, onAck, onExpectedAck, onTime, openTransfer, repeatFirst, type Step } from './transfer.ts'
import { type Outcome, openTransferLog } from './transfer-log.ts'

/** What the server is started with. */
export interface TftpServerOptions {
  readonly listen: { readonly host: string; readonly port: number }
  readonly files: TftpFiles
  readonly limits: OptionLimits & TableLimits & { readonly giveUpSeconds: number }
  /** Milliseconds of a clock that is never set. */
  readonly now: () => number
  readonly log: Logger
  readonly meter?: TftpMeter
}

/** A server that serves. */
export interface TftpServer {
  readonly port: number
  /** Transfers that are open now. */
  readonly open: () => number
  /** Takes no new request, lets what is under way finish within the grace, and closes. */
  close(graceMilliseconds: number): Promise<void>
}

type Request = Extract<Packet, { kind: 'read' | 'write' }>

/**
 * Who forges a peer's address does not see which of our ports its transfer has. With a few ports, or in turn, it could acknowledge
 * in the peer's name, and we would send whole files to whom it names: so it must guess one of these, at its first try.
 */
const transferPorts = 256
/** Transfers with one port of a peer: more at once would make that guess easier. */
const maxTransfersPerPeer = 8
const packetCacheBytes = 64 * 2 ** 20
/**
 * What may be sent to addresses that have not proved to be there; an answer gives it back. A site behind one address may
 * power on together: 256 machines at once, then 64 a second.
 */
const unproved = { perSecond: 64, burst: 256, allPerSecond: 5000, allBurst: 10_000, maxUnits: 10_000 }
const causes: Readonly<Record<number, TftpRefusal>> = { 1: 'not-found', 2: 'read-only', 8: 'options' }
const errors = { other: 0, notFound: 1, accessViolation: 2, illegal: 4, unknownTransfer: 5, options: 8 }

/** Opens the ports and serves. Throws `usage` where it cannot listen; whatever comes later ends neither it nor the process. */
export async function openTftpServer(options: TftpServerOptions): Promise<TftpServer> {
  const { listen, files, limits, now, log } = options
  const host = await addressOf(listen.host)
  const listener = await openListener(host, listen.port)
  const ports = await openPorts(host, listener)
  const table = openTable(limits)
  const cache = openPacketCache(packetCacheBytes)
  const budget = openBudget(unproved)
  const lines = openTransferLog(log, options.meter)
  const deadlines = openDeadlines(now, (active, at) => perform(active, onTime(active.transfer, at), at))
  const lookups = new Set<string>()
  let whenEmpty: (() => void) | undefined
  let isClosing = false

  listener.on('message', (bytes, from) => void onRequest(bytes, from).catch((error) => lines.failed(error)))
  for (const port of ports) port.socket.on('message', (bytes, from) => onMessage(port, bytes, from))
  for (const socket of [listener, ...ports.map((port) => port.socket)]) socket.on('error', lines.failed)

  /** Something for a transfer. Who is not its peer learns that, and changes nothing (RFC 1350, section 4). */
  function onMessage(port: TransferPort, bytes: Buffer, from: RemoteInfo): void {
    const active = findPeer(port, from.address, from.port)
    const at = now()
    if (active === undefined) {
      if (isOfTransfer(bytes)) onStray(port, from, at)
      return
    }
    const acked = ackedBlock(bytes)
    if (acked >= 0) onAcked(active, acked, at)
    // Firmware asks for the size, then says that it is no longer interested: that is no fault.
    else if (isError(bytes)) end(active, 'aborted', at)
  }

  /** One block and its ACK, again and again, is most of what a server does: that way is the short one. */
  function onAcked(active: Active, acked: number, at: number): void {
    const next = onExpectedAck(active.transfer, acked, at)
    if (next === 0) {
      perform(active, onAck(active.transfer, acked, at), at)
      return
    }
    sendBlocks(active, next, next)
    deadlines.set(active)
  }

  /** The peer itself answers where our first packet came from: who answers elsewhere guesses, and is not given a second try. */
  function onStray({ socket }: TransferPort, from: RemoteInfo, at: number): void {
    const unit = countingUnit(from.address)
    for (const active of table.of({ ...from, unit })) if (!active.isAnswered) end(active, 'astray', at)
    if (budget.take(unit, at)) refuse(socket, from, errors.unknownTransfer, 'unknown transfer')
  }

  async function onRequest(bytes: Buffer, from: RemoteInfo): Promise<void> {
    if (isClosing || isError(bytes) || isOfTransfer(bytes)) return
    const at = now()
    const unit = countingUnit(from.address)
    if (from.port === 0 || !budget.take(unit, at))
      return lines.refused(at, 'too-many-requests', { client: unit, why: 'too many requests' })
    const peer = { address: from.address, port: from.port, unit }
    const packet = parsePacket(bytes)
    if (packet.kind !== 'read' && packet.kind !== 'write') {
      const fault = packet.kind === 'malformed' ? packet.fault : 'not a request'
      return deny(peer, errors.illegal, fault)
    }
    const request = bytes.toString('latin1')
    const same = table.same(peer, request)
    if (same !== undefined) return perform(same, repeatFirst(same.transfer), at)
    if (packet.kind === 'write')
      return deny(peer, errors.accessViolation, 'this server is read-only', packet.name)
    if (packet.mode.toLowerCase() !== 'octet')
      return deny(peer, errors.illegal, 'only mode octet is served: ask for binary', packet.name)
    const file = await find(packet, peer)
    if (file === 'later' || isClosing) return
    if (file === undefined) return deny(peer, errors.notFound, 'file not found', packet.name)
    begin(file, packet, { peer, request })
  }

  /** Most names are in the map; while the database is asked for a script, its client's repeated requests add nothing. */
  async function find({ name }: Request, { address, port }: Peer): Promise<TftpFile | undefined | 'later'> {
    const key = `${address}|${port}`
    if (lookups.has(key)) return 'later'
    const found = files.find(name, canonicalAddress(address))
    if (!(found instanceof Promise)) return found
    lookups.add(key)
    return found.finally(() => lookups.delete(key))
  }

  function begin(file: TftpFile, asking: Request, of: { peer: Peer; request: string }): void {
    const { options: asked, name } = asking
    const { peer } = of
    const terms = negotiate(asked, file.bytes.length, limits)
    if ('refused' in terms) {
      deny(peer, errors.options, terms.refused, name)
      return
    }
    const at = now()
    const port = makeRoom(peer, name, at)
    if (port === undefined) return
    const { blockSize, windowSize, timeoutSeconds, granted } = terms
    const hasOack = granted.length > 0
    const { transfer, step } = openTransfer(
      {
        fileBytes: file.bytes.length,
        blockSize,
        windowSize,
        hasOack,
        timeoutSeconds,
        giveUpMilliseconds: limits.giveUpSeconds * 1000,
      },
      at,
    )
    const oack = hasOack ? encodePacket({ kind: 'oack', options: granted }) : Buffer.alloc(0)
    const fresh = { openedAt: at, packets: undefined, isAnswered: false, tick: -1 }
    const rest = { ...fresh, oack, blockSize, windowSize, port }
    const active: Active = { transfer, file, ...of, ...rest }
    table.add(active)
    lines.began()
    addPeer(port, active)
    perform(active, step, at)
  }

  /**
   * Where one more transfer with this peer can be, ending what is in its way. Where there is no room the peer hears nothing:
   * it asks again by itself, and firmware that gets an ERROR does not.
   */
  function makeRoom(peer: Peer, file: string, at: number): TransferPort | undefined {
    const inTheWay = table.roomFor(peer.unit, at)
    const port = inTheWay === 'full' ? undefined : freePort(peer)
    const why = 'too many transfers'
    if (port === undefined) lines.refused(at, 'too-many-transfers', { client: peer.unit, why, file })
    else if (inTheWay !== undefined && inTheWay !== 'full') end(inTheWay, 'evicted', at)
    return port
  }

  /** A port of ours that has no transfer with this peer, by chance: nobody knows it, and late packets of the last one miss. */
  function freePort(peer: Peer): TransferPort | undefined {
    if (table.of(peer).length >= maxTransfersPerPeer) return undefined
    const first = randomInt(ports.length)
    for (let tries = 0; tries < ports.length; tries += 1) {
      const port = ports[(first + tries) % ports.length]
      if (port !== undefined && findPeer(port, peer.address, peer.port) === undefined) return port
    }
    return undefined
  }

  function perform(active: Active, step: Step, at: number): void {
    const { transfer, port, peer } = active
    if (step.kind === 'done' || step.kind === 'given-up') {
      end(active, 'why' in step ? step.why : 'done', at)
      return
    }
    if (step.kind === 'oack') send(port.socket, active.oack, peer)
    if (step.kind === 'blocks') sendBlocks(active, step.first, step.last)
    if (transfer.answered && !active.isAnswered) {
      active.isAnswered = true
      table.answered(active)
      budget.giveBack(peer.unit)
    }
    deadlines.set(active)
  }

  function sendBlocks(active: Active, first: number, last: number): void {
    const { port, peer, blockSize } = active
    active.packets ??= cache.packetsOf(active.file, blockSize)
    // What is not sent for want of room is sent when its time is over.
    if (!hasRoom(port, (last - first + 1) * (blockSize + 4))) return
    for (let block = first; block <= last; block += 1) send(port.socket, active.packets.at(block), peer)
  }

  function end(active: Active, outcome: Outcome, at: number): void {
    table.remove(active)
    removePeer(active.port, active)
    deadlines.clear(active)
    active.packets?.release()
    lines.ended(at, active, outcome, ackedBytes(active.transfer))
    if (table.size() === 0) whenEmpty?.()
  }

  function deny(peer: Peer, code: number, message: string, file?: string): void {
    refuse(listener, peer, code, message)
    const client = canonicalAddress(peer.address)
    lines.refused(now(), causes[code] ?? 'malformed', {
      client,
      why: message,
      ...(file === undefined ? {} : { file }),
    })
  }

  async function close(graceMilliseconds: number): Promise<void> {
    if (isClosing) return
    isClosing = true
    listener.close()
    if (table.size() > 0) {
      const empty = new Promise<void>((resolve) => {
        whenEmpty = resolve
      })
      const { promise: late, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(resolve, graceMilliseconds)
      await Promise.race([empty, late])
      clearTimeout(timer)
    }
    for (const active of [...table.all()]) {
      refuse(active.port.socket, active.peer, errors.other, 'the server stops')
      end(active, 'stopped', now())
    }
    deadlines.close()
    for (const { socket } of ports) socket.close()
  }

  return { port: (listener.address() as AddressInfo).port, open: table.size, close }
}

async function openPorts(host: string, listener: Socket): Promise<TransferPort[]> {
  const ports: TransferPort[] = []
  try {
    while (ports.length < transferPorts)
      ports.push({ socket: await openSocket(host, 0), peers: new Map(), unseenBytes: 0 })
  } catch (error) {
    for (const { socket } of ports) socket.close()
    listener.close()
    throw error
  }
  return ports
}

function refuse(socket: Socket, to: Pick<Peer, 'address' | 'port'>, code: number, message: string): void {
  send(socket, encodePacket({ kind: 'error', code, message }), to)
}
