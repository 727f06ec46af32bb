import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { type ChainedEvent, type ChainFault, genesisHash, hashEvent } from '../../domain/event.ts'
import { PawlError } from '../../errors.ts'
import { fileFault } from './checkpoint.ts'

/**
 * An archive is a file of events, one JSON document a line: a header, the events of one chain after the other, each chain
 * in order and without gaps, and a last line with how many there were, so that a file that was cut off is seen. Archives
 * may overlap: what is in two must be the same.
 */
export const archiveFormat = 'pawl.events/v1'

/** A stretch of one chain as archives hold it, joined. */
export interface ArchivedChain {
  readonly firstSeq: number
  /** The hash before its first event. */
  readonly firstPrev: string
  readonly lastSeq: number
  readonly lastHash: string
  /** The hashes at the numbers that were asked for. */
  readonly marks: ReadonlyMap<number, string>
}

/** What archives hold. */
export interface Archives {
  readonly events: number
  readonly chains: ReadonlyMap<string, ArchivedChain>
  readonly faults: readonly ChainFault[]
}

interface Run {
  firstSeq: number
  firstPrev: string
  lastSeq: number
  lastHash: string
  marks: Map<number, string>
}

/**
 * Reads archives, computes every hash anew, and joins what they hold of each chain. `wanted` says at which numbers of a
 * chain the hash is needed. Files are read twice: the first time to learn where their stretches begin and end.
 */
export async function readArchives(
  files: readonly string[],
  wanted: (chain: string) => readonly number[],
): Promise<Archives> {
  const ends = new Map<string, Set<number>>()
  for (const file of files) {
    let last: ChainedEvent | undefined
    const mark = (chain: string, seq: number): unknown =>
      ends.set(chain, (ends.get(chain) ?? new Set<number>()).add(seq))
    for await (const event of eventsOf(file)) {
      if (event.chain !== last?.chain) {
        if (last !== undefined) mark(last.chain, last.seq)
        mark(event.chain, event.seq - 1)
      }
      last = event
    }
    if (last !== undefined) mark(last.chain, last.seq)
  }
  const faults: ChainFault[] = []
  const runs = new Map<string, Run[]>()
  let events = 0
  for (const file of files) {
    const read = await runsOf(file, (chain) => new Set([...(ends.get(chain) ?? []), ...wanted(chain)]))
    events += read.events
    faults.push(...read.faults)
    for (const [chain, run] of read.runs) runs.set(chain, [...(runs.get(chain) ?? []), run])
  }
  const chains = new Map<string, ArchivedChain>()
  for (const [chain, own] of runs) {
    const joined = join(chain, own)
    if ('fault' in joined) faults.push(joined)
    else chains.set(chain, joined)
  }
  return { events, chains, faults }
}

async function runsOf(
  file: string,
  wanted: (chain: string) => ReadonlySet<number>,
): Promise<{ runs: Map<string, Run>; faults: ChainFault[]; events: number }> {
  const runs = new Map<string, Run>()
  const bad = new Map<string, ChainFault>()
  let marks: ReadonlySet<number> = new Set()
  let events = 0
  for await (const event of eventsOf(file)) {
    events += 1
    const { chain, seq, prevHash, hash } = event
    if (bad.has(chain)) continue
    const known = runs.get(chain)
    const run: Run = known ?? {
      ...{ firstSeq: seq, firstPrev: prevHash, lastSeq: seq - 1, lastHash: prevHash },
      marks: new Map([[seq - 1, prevHash]]),
    }
    if (known === undefined) {
      runs.set(chain, run)
      marks = wanted(chain)
    }
    const fault = faultOf(event, run)
    if (fault !== undefined) bad.set(chain, { chain, seq: run.lastSeq + 1, fault })
    else {
      run.lastSeq = seq
      run.lastHash = hash
      if (marks.has(seq)) run.marks.set(seq, hash)
    }
  }
  for (const chain of bad.keys()) runs.delete(chain)
  return { runs, faults: [...bad.values()], events }
}

function faultOf(event: ChainedEvent, run: Run): ChainFault['fault'] | undefined {
  if (event.seq > run.lastSeq + 1) return 'missing'
  if (event.seq < run.lastSeq + 1) return 'out of order'
  if (hashEvent(event) !== event.hash) return 'edited'
  return event.prevHash === run.lastHash ? undefined : 'out of order'
}

/** One stretch of several that touch or overlap; the first place where they do not fit. */
function join(chain: string, runs: readonly Run[]): ArchivedChain | ChainFault {
  const [first, ...others] = runs.toSorted((a, b) => a.firstSeq - b.firstSeq)
  if (first === undefined) return { chain, seq: 1, fault: 'missing' }
  const whole: Run = { ...first, marks: new Map(first.marks) }
  whole.marks.set(whole.lastSeq, whole.lastHash)
  if (first.firstSeq === 1 && first.firstPrev !== genesisHash) return { chain, seq: 1, fault: 'out of order' }
  for (const run of others) {
    if (run.firstSeq > whole.lastSeq + 1) return { chain, seq: whole.lastSeq + 1, fault: 'missing' }
    if (whole.marks.get(run.firstSeq - 1) !== run.firstPrev)
      return { chain, seq: run.firstSeq, fault: 'edited' }
    for (const [seq, hash] of run.marks) {
      if (seq <= whole.lastSeq && whole.marks.has(seq) && whole.marks.get(seq) !== hash)
        return { chain, seq, fault: 'edited' }
      whole.marks.set(seq, hash)
    }
    if (run.lastSeq <= whole.lastSeq) continue
    whole.lastSeq = run.lastSeq
    whole.lastHash = run.lastHash
    whole.marks.set(run.lastSeq, run.lastHash)
  }
  return whole
}

async function* eventsOf(file: string): AsyncGenerator<ChainedEvent> {
  let number = 0
  let events = 0
  let end: number | undefined
  try {
    const lines = createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY })
    for await (const line of lines) {
      number += 1
      const value = parseLine(line, file, number)
      if (number === 1) {
        if (value.format !== archiveFormat) throw notOne(file, 1, `it is not of the format ${archiveFormat}`)
      } else if (end !== undefined) throw notOne(file, number, 'something is behind its end')
      else if (typeof value.end === 'number') end = value.end
      else {
        events += 1
        yield eventOf(value, file, number)
      }
    }
  } catch (error) {
    throw error instanceof PawlError ? error : fileFault(file, error)
  }
  if (end !== events) throw notOne(file, number, 'it was cut off: its last line is not its end')
}

function parseLine(line: string, file: string, number: number): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(line)
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {
    // told below
  }
  throw notOne(file, number, 'it is not JSON')
}

function eventOf(value: Readonly<Record<string, unknown>>, file: string, number: number): ChainedEvent {
  const { chain, seq, at, kind, node, session, actor, source, detail, prevHash, hash } = value
  const texts = [chain, at, kind, actor, detail, prevHash, hash]
  const maybe = [node, session, source]
  if (
    !texts.every((text) => typeof text === 'string') ||
    !maybe.every((text) => text === null || typeof text === 'string') ||
    !Number.isSafeInteger(seq)
  )
    throw notOne(file, number, 'it is not an event')
  return value as unknown as ChainedEvent // every field was looked at
}

function notOne(file: string, line: number, why: string): PawlError {
  return new PawlError('invalid', `${file}:${line}: ${why}`, {
    hint: 'archives are made with pawl event export',
  })
}
