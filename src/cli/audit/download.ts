import {
  type ChainEnds,
  type ChainedEvent,
  type ChainFault,
  type ChainPosition,
  genesisHash,
  hashEvent,
} from '../../domain/event.ts'
import type { Page } from '../answers.ts'
import type { Api } from '../api.ts'
import { chainedEvents, keyOf, type LiveRecord } from './live.ts'

/**
 * Downloads every event and computes every hash and link here: no answer of the server's is believed but the events
 * themselves. Chains grow meanwhile, and may be trimmed: one that does not fit is looked at again by itself.
 */
export async function downloadRecord(
  api: Api,
  chains: ReadonlyMap<string, ChainEnds>,
  wanted: readonly ChainPosition[],
): Promise<LiveRecord> {
  const marks = new Set(wanted.map(keyOf))
  const hashes = new Map<string, string>()
  const suspects = new Set<string>()
  const seen = new Set<string>()
  let events = 0
  let walk: Walk | undefined
  const leave = (): void => {
    if (walk !== undefined && finish(walk) !== undefined) suspects.add(walk.ends.name)
  }
  for await (const event of chainedEvents(api, {})) {
    events += 1
    if (walk?.ends.name !== event.chain) {
      leave()
      walk = begin(chains.get(event.chain) ?? newChain(event.chain))
      seen.add(event.chain)
    }
    step(walk, event)
    if (marks.has(keyOf(event))) hashes.set(keyOf(event), hashEvent(event))
  }
  leave()
  for (const { name, baseSeq, headSeq } of chains.values())
    if (!seen.has(name) && baseSeq < headSeq) suspects.add(name)
  const faults: ChainFault[] = []
  for (const chain of suspects) {
    const fault = await lookAgain(api, chain)
    if (fault !== undefined) faults.push(fault)
  }
  return { events, hashes, faults }
}

interface Walk {
  readonly ends: ChainEnds
  seq: number
  hash: string
  atHead: string | undefined
  fault: ChainFault | undefined
}

function begin(ends: ChainEnds): Walk {
  const atHead = ends.headSeq === ends.baseSeq ? ends.baseHash : undefined
  return { ends, seq: ends.baseSeq, hash: ends.baseHash, atHead, fault: undefined }
}

function step(walk: Walk, event: ChainedEvent): void {
  if (walk.fault !== undefined) return
  const seq = walk.seq + 1
  const fault =
    event.seq !== seq
      ? event.seq > seq
        ? 'missing'
        : 'out of order'
      : hashEvent(event) !== event.hash
        ? 'edited'
        : event.prevHash !== walk.hash
          ? 'out of order'
          : undefined
  if (fault !== undefined) {
    walk.fault = { chain: event.chain, seq, fault }
    return
  }
  walk.seq = seq
  walk.hash = event.hash
  if (seq === walk.ends.headSeq) walk.atHead = event.hash
}

/** A chain may have grown since its ends were asked for; it must have been where they say. */
function finish({ ends, seq, atHead, fault }: Walk): ChainFault | undefined {
  if (fault !== undefined) return fault
  if (seq < ends.headSeq) return { chain: ends.name, seq: seq + 1, fault: 'cut off' }
  return atHead === ends.headHash ? undefined : { chain: ends.name, seq: ends.headSeq, fault: 'edited' }
}

async function lookAgain(api: Api, name: string): Promise<ChainFault | undefined> {
  const page: Page<ChainEnds, string> = await api.get('/events/chains', { name, limit: 1 })
  const [ends] = page.items
  if (ends?.name !== name) return { chain: name, seq: 1, fault: 'removed' }
  const walk = begin(ends)
  for await (const event of chainedEvents(api, { chain: name })) step(walk, event)
  return finish(walk)
}

/** One that began after the list was made. */
function newChain(name: string): ChainEnds {
  return { name, baseSeq: 0, baseHash: genesisHash, headSeq: 0, headHash: genesisHash }
}
