import type { ChainPlace } from '../../domain/checkpoint.ts'
import {
  type ChainEnds,
  type ChainedEvent,
  type ChainFault,
  type ChainPosition,
  genesisHash,
  hashEvent,
  systemChain,
} from '../../domain/event.ts'
import type { PositionsView, VerificationView } from '../answers.ts'
import type { Api } from '../api.ts'
import { type Archives, readArchives } from './archive.ts'
import type { VerifiedCheckpoint } from './checkpoint.ts'
import { downloadRecord } from './download.ts'
import { chainsOf, keyOf, type LiveHashes, type LiveRecord } from './live.ts'
import { explainTrims } from './trims.ts'

/**
 * The record checked from outside: by a checkpoint that was kept elsewhere, by archives, and, with `full`, by computing
 * every hash here from what is downloaded. What the server says of itself is asked for too, and believed least.
 */
export interface RecordCheck {
  readonly checkpoint: VerifiedCheckpoint | undefined
  readonly archives: readonly string[]
  /** Download every event and compute its hash here. */
  readonly full: boolean
  readonly now: Date
}

/** A part of a chain that nothing here can say anything about: it was trimmed, and is in no archive that was given. */
export interface Unproven {
  readonly chain: string
  readonly from: number
  readonly to: number
}

/** What was found. */
export interface CheckedRecord {
  readonly ok: boolean
  readonly chains: number
  readonly events: number
  /** Events in archives. */
  readonly archived: number
  readonly faults: readonly ChainFault[]
  readonly unproven: readonly Unproven[]
}

/** Checks the record; the faults are sorted by chain. */
export async function checkRecord(api: Api, check: RecordCheck): Promise<CheckedRecord> {
  const { checkpoint, archives: files, full } = check
  const places = new Map((checkpoint?.places ?? []).map((place) => [place.chain, place]))
  const chains = await chainsOf(api)
  const archives = await readArchives(files, (chain) => [
    places.get(chain)?.seq ?? 0,
    chains.get(chain)?.baseSeq ?? 0,
  ])
  const wanted = wantedPositions(places, chains, archives)
  const live = full ? await downloadRecord(api, chains, wanted) : await askServer(api, wanted)
  const faults: ChainFault[] = [...archives.faults, ...live.faults]
  const unproven: Unproven[] = []
  for (const place of places.values()) {
    const found = checkPlace(place, chains.get(place.chain), { live: live.hashes, archives })
    if (found === undefined) continue
    if ('fault' in found) faults.push(found)
    else unproven.push(found)
  }
  for (const [chain, archived] of archives.chains) {
    const fault = checkJoint(chain, archived, chains.get(chain), live.hashes)
    if (fault !== undefined) faults.push(fault)
  }
  if (checkpoint !== undefined) {
    const { seq = 0, hash = genesisHash } = places.get(systemChain) ?? {}
    const trims = await explainTrims(api, {
      ...{ checkpoint, chains, archives, from: { seq, hash }, now: check.now },
    })
    faults.push(...trims.faults)
    const known = new Set(unproven.map(({ chain }) => chain))
    unproven.push(...trims.unproven.filter(({ chain }) => !known.has(chain)))
  }
  return {
    ok: faults.length === 0,
    chains: chains.size,
    events: live.events,
    archived: archives.events,
    faults: firstOfEach(faults),
    unproven,
  }
}

/** Which live events must be looked at: those the checkpoint names, and the last of each archive. */
function wantedPositions(
  places: ReadonlyMap<string, ChainPlace>,
  chains: ReadonlyMap<string, ChainEnds>,
  archives: Archives,
): ChainPosition[] {
  const named = [...places.values()].map(({ chain, seq }) => ({ chain, seq }))
  const joints = [...archives.chains].map(([chain, { lastSeq }]) => ({ chain, seq: lastSeq }))
  return [...named, ...joints].filter(({ chain, seq }) => {
    const ends = chains.get(chain)
    return ends !== undefined && seq > ends.baseSeq && seq <= ends.headSeq
  })
}

/** Without `full`: the server checks its links, and shows the events that are wanted; their hashes are computed here. */
async function askServer(api: Api, wanted: readonly ChainPosition[]): Promise<LiveRecord> {
  const own = await api.get<VerificationView>('/events/verify')
  const hashes = new Map<string, string>()
  const faults: ChainFault[] = [...own.faults]
  for (let from = 0; from < wanted.length; from += 500) {
    const positions = wanted.slice(from, from + 500)
    const { items } = await api.post<PositionsView>('/events/positions', { positions })
    for (const event of items) noteHash(event, hashes, faults)
  }
  return { events: own.events, hashes, faults }
}

/** Computes an event's hash, and keeps it. */
export function noteHash(event: ChainedEvent, hashes: Map<string, string>, faults: ChainFault[]): void {
  const hash = hashEvent(event)
  if (hash !== event.hash) faults.push({ chain: event.chain, seq: event.seq, fault: 'edited' })
  hashes.set(keyOf(event), hash)
}

/** Whether a chain still has, at the number a checkpoint names, the event whose hash it names. */
function checkPlace(
  { chain, seq, hash }: ChainPlace,
  ends: ChainEnds | undefined,
  { live, archives }: { live: LiveHashes; archives: Archives },
): ChainFault | Unproven | undefined {
  const archived = archives.chains.get(chain)?.marks.get(seq)
  if (archived !== undefined && archived !== hash) return { chain, seq, fault: 'edited' }
  if (ends === undefined) return { chain, seq: 1, fault: 'removed' }
  if (ends.headSeq < seq) return { chain, seq: ends.headSeq + 1, fault: 'cut off' }
  if (ends.baseSeq > seq) {
    return archived === undefined ? { chain, from: 1, to: ends.baseSeq } : undefined
  }
  const found =
    seq === 0 ? genesisHash : seq === ends.baseSeq ? ends.baseHash : live.get(keyOf({ chain, seq }))
  if (found === undefined) return { chain, seq, fault: 'missing' }
  return found === hash ? undefined : { chain, seq, fault: 'edited' }
}

/** Whether an archive goes on in the live chain. */
function checkJoint(
  chain: string,
  archived: Archives['chains'] extends ReadonlyMap<string, infer One> ? One : never,
  ends: ChainEnds | undefined,
  live: LiveHashes,
): ChainFault | undefined {
  const { firstSeq, lastSeq, lastHash, marks } = archived
  if (ends === undefined) return { chain, seq: 1, fault: 'removed' }
  if (ends.headSeq < lastSeq) return { chain, seq: ends.headSeq + 1, fault: 'cut off' }
  if (ends.baseSeq > lastSeq) return { chain, seq: lastSeq + 1, fault: 'missing' }
  if (ends.baseSeq >= firstSeq - 1 && marks.get(ends.baseSeq) !== ends.baseHash)
    return { chain, seq: ends.baseSeq, fault: 'edited' }
  if (lastSeq === ends.baseSeq) return undefined
  return live.get(keyOf({ chain, seq: lastSeq })) === lastHash
    ? undefined
    : { chain, seq: lastSeq, fault: 'edited' }
}

function firstOfEach(faults: readonly ChainFault[]): ChainFault[] {
  const first = new Map<string, ChainFault>()
  for (const fault of faults) {
    const known = first.get(fault.chain)
    if (known === undefined || fault.seq < known.seq) first.set(fault.chain, fault)
  }
  return [...first.values()].sort((a, b) => (a.chain < b.chain ? -1 : 1))
}
