import { createSocket, type Socket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { isIP, isIPv6 } from 'node:net'
import { PawlError } from '../errors.ts'
import type { Active, Peer } from './table.ts'

/**
 * The sockets. Transfers share a fixed number of ports: a peer is told from all others by its address and port together with
 * ours, as RFC 1350 has it, and one that opens several transfers from one port of its own gets several of ours. So a flood of
 * requests opens no descriptor.
 */
export interface TransferPort {
  readonly socket: Socket
  /** By the peer's port: mostly one; where several have the same port, by their address. */
  readonly peers: Map<number, Active | Map<string, Active>>
  /** Bytes that were sent since the kernel's queue was looked at. */
  unseenBytes: number
}

/** What waits in the kernel's queue beyond this is not sent at all, and so counts as lost: memory must not grow with it. */
const maxQueuedBytes = 2 ** 19
/** Asking the kernel for each block of 1468 bytes cost 3 % of the time: the bound is passed by so many bytes at most. */
const lookEveryBytes = 2 ** 16

/** Opens a socket on this address; throws the system's error. */
export async function openSocket(host: string, port: number): Promise<Socket> {
  const family = isIPv6(host) ? 6 : 4
  const socket = createSocket({
    type: family === 6 ? 'udp6' : 'udp4',
    // Peers are addresses already: to look them up would cost a turn of the event loop for each packet.
    lookup: (name, _options, callback) => callback(null, name, family),
  })
  const listening = once(socket, 'listening') // which comes within bind, as nothing is looked up
  socket.bind({ address: host, port, exclusive: true })
  await listening
  growBuffers(socket)
  return socket
}

/** The address of a host that is named; throws `usage` where it has none. */
export async function addressOf(host: string): Promise<string> {
  if (isIP(host) !== 0) return host
  try {
    return (await lookup(host)).address
  } catch (cause) {
    const hint = 'name an address of this machine in tftpListen'
    throw new PawlError('usage', `cannot listen for TFTP: ${host} has no address`, { hint, cause })
  }
}

/** Opens where requests arrive; throws `usage` naming what cannot be had. */
export async function openListener(host: string, port: number): Promise<Socket> {
  try {
    return await openSocket(host, port)
  } catch (cause) {
    const code = (cause as { code?: string }).code ?? 'unknown'
    const hints: Readonly<Record<string, string>> = {
      EACCES: 'ports below 1024 need CAP_NET_BIND_SERVICE: deploy/systemd/pawl.service says where to add it',
      EADDRINUSE: 'another TFTP server has this port: dnsmasq, tftpd or a Pawl?',
    }
    throw new PawlError('usage', `cannot listen for TFTP on ${host} port ${port} (${code})`, {
      hint: hints[code] ?? 'check the address',
      cause,
    })
  }
}

/** The transfer with this peer. */
export function findPeer({ peers }: TransferPort, address: string, port: number): Active | undefined {
  const found = peers.get(port)
  if (found === undefined) return undefined
  if (found instanceof Map) return found.get(address)
  return found.peer.address === address ? found : undefined
}

/** Notes the transfer with its peer, of which there is none yet. */
export function addPeer({ peers }: TransferPort, active: Active): void {
  const { address, port } = active.peer
  const found = peers.get(port)
  if (found === undefined) peers.set(port, active)
  else if (found instanceof Map) found.set(address, active)
  else
    peers.set(
      port,
      new Map([
        [found.peer.address, found],
        [address, active],
      ]),
    )
}

/** Forgets the transfer. */
export function removePeer({ peers }: TransferPort, active: Active): void {
  const { address, port } = active.peer
  const found = peers.get(port)
  if (found === active) peers.delete(port)
  else if (found instanceof Map && found.get(address) === active) {
    found.delete(address)
    if (found.size === 0) peers.delete(port)
  }
}

/** Whether so many bytes may be sent from this port now. */
export function hasRoom(port: TransferPort, bytes: number): boolean {
  port.unseenBytes += bytes
  if (port.unseenBytes < lookEveryBytes) return true
  // Where it is full it is looked at again for the next block, and for each until there is room.
  if (port.socket.getSendQueueSize() >= maxQueuedBytes) return false
  port.unseenBytes = 0
  return true
}

/** Sends to a peer. What the system refuses is as good as lost on the way. */
export function send(
  socket: Socket,
  bytes: Uint8Array,
  { port, address }: Pick<Peer, 'port' | 'address'>,
): void {
  // Nobody is at port 0, but a forged packet may come from there, and sending to it throws.
  if (port !== 0) socket.send(bytes, port, address)
}

/** ACKs of many arrive at once, and a window leaves at once; the system may grant less. */
function growBuffers(socket: Socket): void {
  try {
    socket.setRecvBufferSize(4 * 2 ** 20)
    socket.setSendBufferSize(4 * 2 ** 20)
  } catch {
    // Some systems refuse what is over their limit instead of granting less: the default is enough to work.
  }
}
