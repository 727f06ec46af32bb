import type { Packets } from './blocks.ts'
import type { TftpFile } from './files.ts'
import type { TransferPort } from './ports.ts'
import type { Transfer } from './transfer.ts'

/** Whom a transfer is with. */
export interface Peer {
  readonly address: string
  readonly port: number
  /** What its limits are counted by: one IPv4 address, or an IPv6 /64. */
  readonly unit: string
}

/** A transfer that is open. */
export interface Active {
  readonly transfer: Transfer
  readonly peer: Peer
  readonly file: TftpFile
  readonly blockSize: number
  readonly windowSize: number
  /** The OACK; empty where none is sent. */
  readonly oack: Uint8Array
  /** The request as it came, to know it again. */
  readonly request: string
  readonly port: TransferPort
  readonly openedAt: number
  /** Whether the table knows that the peer has answered. */
  isAnswered: boolean
  /** The file's packets, taken when the first of them is sent. */
  packets: Packets | undefined
  /** The tick at which its deadline is looked at; -1 while none is set. */
  tick: number
}

/** How many may be open. */
export interface TableLimits {
  readonly maxTransfers: number
  readonly maxTransfersPerClient: number
}

/** All open transfers, in the order that they were opened in. */
export interface Table {
  readonly size: () => number
  readonly all: () => Iterable<Active>
  add(active: Active): void
  remove(active: Active): void
  /** Notes that the peer has answered: from now on it is not the first to go. */
  answered(active: Active): void
  /** All with this very port of a peer. */
  of(peer: Peer): Active[]
  /** The transfer of this very request that waits for its first answer. */
  same(peer: Peer, request: string): Active | undefined
  /**
   * What must end so that one more of this unit can begin: of the unit itself the oldest that stalls, of all the oldest that
   * was never answered, then the one that stalls longest. `full` where nothing may be ended for it.
   */
  roomFor(unit: string, now: number): Active | 'full' | undefined
}

/** A peer without progress for so long is stalled: it has started anew, or is gone. */
const stalledMilliseconds = 3000
const sweepMilliseconds = 250

/** Opens an empty table. */
export function openTable(limits: TableLimits): Table {
  const open = new Set<Active>()
  const unanswered = new Set<Active>()
  const byUnit = new Map<string, Set<Active>>()
  let sweptAt = Number.NEGATIVE_INFINITY
  let stalled: Active[] = []

  /** Looks at everyone now and then only: a flood of requests must not make us count all transfers for each. */
  function longestStalled(now: number): Active | undefined {
    if (now - sweptAt >= sweepMilliseconds) {
      sweptAt = now
      stalled = [...open]
        .filter((active) => isStalled(active, now))
        .sort((a, b) => b.transfer.progressAt - a.transfer.progressAt)
    }
    for (let one = stalled.pop(); one !== undefined; one = stalled.pop()) {
      if (open.has(one) && isStalled(one, now)) return one
    }
    return undefined
  }

  function of({ unit, address, port }: Peer): Active[] {
    return [...(byUnit.get(unit) ?? [])].filter(({ peer }) => peer.port === port && peer.address === address)
  }

  return {
    size: () => open.size,
    all: () => open,
    add: (active) => {
      open.add(active)
      unanswered.add(active)
      const { unit } = active.peer
      const siblings = byUnit.get(unit) ?? new Set()
      byUnit.set(unit, siblings.add(active))
    },
    remove: (active) => {
      open.delete(active)
      unanswered.delete(active)
      const siblings = byUnit.get(active.peer.unit)
      siblings?.delete(active)
      if (siblings?.size === 0) byUnit.delete(active.peer.unit)
    },
    answered: (active) => unanswered.delete(active),
    of,
    same: (peer, request) => of(peer).find((active) => active.request === request && unanswered.has(active)),
    roomFor: (unit, now) => {
      const siblings = byUnit.get(unit)
      if (siblings !== undefined && siblings.size >= limits.maxTransfersPerClient) {
        return [...siblings].find((active) => isStalled(active, now)) ?? 'full'
      }
      if (open.size < limits.maxTransfers) return undefined
      const [oldest] = unanswered
      return oldest ?? longestStalled(now) ?? 'full'
    },
  }
}

function isStalled({ transfer }: Active, now: number): boolean {
  return now - transfer.progressAt >= stalledMilliseconds
}
