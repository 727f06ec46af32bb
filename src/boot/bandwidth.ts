/**
 * How fast downloads may be: all together, and each node's. Whoever is to send asks for its next few bytes; turns go round in the
 * order of asking, one for each download, so that all get the same. What is not a download never asks.
 */
import { PawlError } from '../errors.ts'

/** Bytes a second; undefined: as many as there are. */
export interface Rates {
  readonly total?: number | undefined
  readonly node?: number | undefined
}

/** The part of one download. */
export interface Lane {
  /** How many bytes to ask for at most: so few that all get a turn each second. */
  readonly most: () => number
  /** Resolves when so many may be sent; undefined: now. */
  take(bytes: number): Promise<void> | undefined
  /** Call it when the download is over; what it still waited for is others' then. */
  close(): void
}

/** The limits of this process. */
export interface Bandwidth {
  /**
   * Begins a download of a node, or of an address. Throws `overloaded` where all would get less than a client bears: it comes
   * again, as it does for every 503.
   */
  begin(of: string): Lane
  readonly count: () => number
}

/** A time that only runs forward, and waiting for it, in milliseconds. Tests have their own. */
export interface Time {
  readonly now: () => number
  readonly wait: (milliseconds: number) => Promise<void>
}

/** Agents give up a connection with less than 1 kB/s, and iPXE one without a byte for a minute. */
const leastShare = 16 * 1024
const leastTurn = 16 * 1024
/** What was not used for so long may be used at once. */
const burstMilliseconds = 100

const realTime: Time = {
  now: performance.now.bind(performance),
  wait: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
}

/** Opens the limits; without any, a lane costs nothing. */
export function openBandwidth(rates: Rates, time: Time = realTime): Bandwidth {
  const total = rates.total === undefined ? undefined : openPace(rates.total)
  const nodes = new Map<string, { readonly pace: Pace; lanes: number }>()
  let lanes = 0

  /** A turn of each a second, and at least 200 turns in all. */
  function most(): number {
    const share = rates.total === undefined ? Number.POSITIVE_INFINITY : rates.total / Math.max(lanes, 200)
    const own = rates.node === undefined ? Number.POSITIVE_INFINITY : rates.node / 4
    return Math.max(leastTurn, Math.min(share, own))
  }

  function nodeOf(of: string, rate: number) {
    const node = nodes.get(of) ?? { pace: openPace(rate), lanes: 0 }
    nodes.set(of, node)
    node.lanes += 1
    return node
  }

  return {
    count: () => lanes,
    begin(of) {
      if (rates.total !== undefined && (lanes + 1) * leastShare > rates.total)
        throw new PawlError('overloaded', 'as many downloads as the bandwidth limit bears are under way')
      lanes += 1
      const node = rates.node === undefined ? undefined : nodeOf(of, rates.node)
      const paces = [node?.pace, total].filter((pace) => pace !== undefined)
      const turn: Turn = { waitsFor: undefined, bytes: 0, over: false }
      return {
        most,
        take: (bytes) => (paces.length === 0 ? undefined : takeTurns(paces, bytes, turn, time)),
        close() {
          lanes -= 1
          turn.over = true
          turn.waitsFor?.giveBack(turn.bytes)
          if (node === undefined) return
          node.lanes -= 1
          // Not before its last bytes would have been sent: else who comes again at once has no limit.
          if (node.lanes === 0) void time.wait(node.pace.busyFor(time.now())).then(() => forget(of))
        },
      }
    },
  }

  function forget(of: string): void {
    if (nodes.get(of)?.lanes === 0) nodes.delete(of)
  }
}

/** What a lane waits for now. */
interface Turn {
  waitsFor: Pace | undefined
  bytes: number
  over: boolean
}

/** First its own, then everyone's: what waits for its own limit keeps nobody else waiting. */
async function takeTurns(paces: readonly Pace[], bytes: number, turn: Turn, time: Time): Promise<void> {
  for (const pace of paces) {
    if (turn.over) return
    const wait = pace.reserve(bytes, time.now())
    if (wait <= 0) continue
    turn.waitsFor = pace
    turn.bytes = bytes
    await time.wait(wait)
    turn.waitsFor = undefined
  }
}

interface Pace {
  /** Takes the next free time; answers how long it is until then. */
  reserve(bytes: number, now: number): number
  /** Who went away does not take it: those who come and go must not keep others waiting. */
  giveBack(bytes: number): void
  readonly busyFor: (now: number) => number
}

function openPace(bytesPerSecond: number): Pace {
  let freeAt = Number.NEGATIVE_INFINITY
  return {
    reserve(bytes, now) {
      const at = Math.max(freeAt, now - burstMilliseconds)
      freeAt = at + (bytes * 1000) / bytesPerSecond
      return Math.max(0, at - now)
    },
    giveBack(bytes) {
      freeAt -= (bytes * 1000) / bytesPerSecond
    },
    busyFor: (now) => Math.max(0, freeAt - now),
  }
}
