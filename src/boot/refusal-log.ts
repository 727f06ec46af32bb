import { countingUnit } from '../domain/address.ts'
import type { Clock } from '../domain/clock.ts'
import { type EventFacts, type EventKind, nodeChain, unknownChain } from '../domain/event.ts'
import { isPawlError } from '../errors.ts'
import type { Storage } from '../storage/database.ts'
import { appendEvent, trimChain } from '../storage/events.ts'
import type { BootMeter } from './meter.ts'

/**
 * What strangers can cause to be written, bounded so that nobody can fill the disk: per (chain, kind, cause, source /32
 * or /64) the first ten a minute are events and the rest are one counted event; a chain takes at most a hundred a
 * minute in all; requests that name no known node share one chain of bounded length. Written after boots, not among
 * them, and not at all when the disk is nearly full. Alarms, which nobody raises who has proved nothing, have a hundred of
 * their own: else whoever floods a node's chain with refusals would hide the one event that somebody is called for.
 */
export interface RefusalLog {
  /** Takes note; never throws and never waits. Without an actor it was the node, or who knows who. */
  record(facts: Omit<EventFacts, 'at' | 'actor'> & { cause: string; actor?: string; alarm?: true }): void
  /** Writes what is due by now: queued events, and counts whose minute is over. */
  flush(): Promise<void>
  /** Events that were not written because the queue or the disk was full. */
  readonly dropped: () => number
}

/** What the log needs. */
export interface RefusalLogOptions {
  readonly storage: Storage
  readonly clock: Clock
  /** Whether the disk has room left above the reserve. */
  readonly hasRoom: () => Promise<boolean>
  readonly onError: (error: unknown) => void
  /** Told of each thing that is noted, listed and counted ones alike. */
  readonly onRecord?: BootMeter['refused']
}

const windowMilliseconds = 60_000
const listedPerSource = 10
const listedPerChain = 100
const maxQueued = 2000
const maxWindows = 10_000
const maxUnknownEvents = 10_000
const batchSize = 50

interface Window {
  readonly since: Date
  readonly facts: EventFacts
  readonly cause: string
  listed: number
  counted: number
}

/** The same with texts of its own, as `ownCopy` (`domain/own-copy.ts`) makes them of one. */
function copyOf(detail: EventFacts['detail']): EventFacts['detail'] {
  return JSON.parse(JSON.stringify(detail))
}

/** Opens the log. `flush` is called by a timer of the server and before it stops. */
export function openRefusalLog(options: RefusalLogOptions): RefusalLog {
  const windows = new Map<string, Window>()
  const queue: EventFacts[] = []
  let dropped = 0
  let writing: Promise<void> | undefined

  function windowFor(key: string, facts: EventFacts, cause: string): Window {
    const known = windows.get(key)
    if (known !== undefined && facts.at.getTime() - known.since.getTime() < windowMilliseconds) return known
    if (known !== undefined) close(key, known)
    const fresh: Window = { since: facts.at, facts, cause, listed: 0, counted: 0 }
    windows.set(key, fresh)
    return fresh
  }

  function close(key: string, window: Window): void {
    windows.delete(key)
    if (window.counted === 0) return
    const { facts, cause, counted, since } = window
    enqueue({
      ...facts,
      at: options.clock(),
      kind: 'refusals-counted',
      session: null,
      actor: facts.node === null ? 'unknown' : 'node', // of many, the first is not who it was
      detail: { of: facts.kind, cause, count: counted, since: since.toISOString() },
    })
  }

  function enqueue(facts: EventFacts): void {
    if (queue.length >= maxQueued) dropped += 1
    else queue.push(facts)
  }

  function record(input: Parameters<RefusalLog['record']>[0]): void {
    const { cause, alarm, ...rest } = input
    options.onRecord?.(rest.kind, cause)
    const actor = rest.node === null ? 'unknown' : 'node'
    const facts: EventFacts = { actor, ...rest, detail: copyOf(rest.detail), at: options.clock() }
    const chain = chainOf(facts)
    const unit = facts.source === null ? '-' : countingUnit(facts.source)
    const whole = windowFor(`${chain}|*${alarm === true ? '|alarm' : ''}`, { ...facts, source: null }, 'any')
    // With too many sources to keep apart, one window a chain and cause counts for all of them.
    const bySource = `${chain}|${facts.kind}|${cause}|${windows.size < maxWindows ? unit : '*'}`
    const window = windowFor(bySource, facts, cause)
    if (window.listed < listedPerSource && whole.listed < listedPerChain) {
      window.listed += 1
      whole.listed += 1
      enqueue(facts)
      void flush()
    } else {
      window.counted += 1
    }
  }

  /** A write that is under way may have looked at the clock before, or at the queue for the last time: behind it there is one more. */
  async function flush(): Promise<void> {
    await writing
    writing ??= writeAll().finally(() => {
      writing = undefined
    })
    await writing
  }

  async function writeAll(): Promise<void> {
    // One turn of the event loop first: boots that are being served now begin their transactions before this one.
    await new Promise((resolve) => setImmediate(resolve))
    const now = options.clock().getTime()
    for (const [key, window] of windows) {
      if (now - window.since.getTime() >= windowMilliseconds) close(key, window)
    }
    let goesOn = true
    while (queue.length > 0 && goesOn) goesOn = await writeBatch(queue.splice(0, batchSize))
  }

  /** False where the database is away: what fits into the queue waits until it is back. */
  async function writeBatch(batch: readonly EventFacts[]): Promise<boolean> {
    try {
      if (!(await options.hasRoom())) {
        dropped += batch.length
        return true
      }
      await options.storage.transaction(async (tx) => {
        for (const facts of inLockOrder(batch)) await appendEvent(tx, facts, chainOf(facts))
        if (batch.some((facts) => facts.node === null)) await trimChain(tx, unknownChain, maxUnknownEvents)
      })
      return true
    } catch (error) {
      const isAway = isPawlError(error, 'storage-unavailable')
      if (isAway && queue.length + batch.length <= maxQueued) queue.unshift(...batch)
      else dropped += batch.length
      options.onError(error)
      return !isAway
    }
  }

  return { record, flush, dropped: () => dropped }
}

/** By chain, so that whoever locks several chains does so in one order; within a chain as they came. */
function inLockOrder(batch: readonly EventFacts[]): EventFacts[] {
  return batch.toSorted((a, b) => (chainOf(a) < chainOf(b) ? -1 : chainOf(a) > chainOf(b) ? 1 : 0))
}

function chainOf(facts: { node: string | null; kind: EventKind }): string {
  return facts.node === null ? unknownChain : nodeChain(facts.node)
}
