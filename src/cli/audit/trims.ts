import { type ChainEnds, type ChainFault, hashEvent, systemChain } from '../../domain/event.ts'
import { minRetentionDays } from '../../domain/retention.ts'
import type { Api } from '../api.ts'
import type { Archives } from './archive.ts'
import type { VerifiedCheckpoint } from './checkpoint.ts'
import { chainedEvents, isBounded } from './live.ts'

/** What the check of trims knows. */
export interface TrimQuestion {
  readonly checkpoint: VerifiedCheckpoint
  readonly chains: ReadonlyMap<string, ChainEnds>
  readonly archives: Archives
  /** Where the system's chain was at the checkpoint. */
  readonly from: { readonly seq: number; readonly hash: string }
  readonly now: Date
}

/**
 * Retention removes events, and so would someone who wants them gone: each chain that begins later than the checkpoint says
 * must be explained, by an event of the trim in the system's chain (read and computed here from the checkpoint on), and a
 * chain that was trimmed beyond a checkpoint which is younger than any retention cannot have been trimmed rightly. What an
 * archive holds up to the chain's beginning needs no word more.
 */
export async function explainTrims(api: Api, question: TrimQuestion): Promise<ChainFault[]> {
  const { checkpoint, chains, archives, now } = question
  const ageDays = (now.getTime() - Date.parse(checkpoint.statement.at)) / 86_400_000
  const trimmed = checkpoint.places.flatMap((place) => {
    const ends = chains.get(place.chain)
    const isTrimmed = ends !== undefined && ends.baseSeq > place.baseSeq && !isBounded(place.chain)
    return isTrimmed ? [{ place, ends }] : []
  })
  const faults: ChainFault[] = []
  const open: ChainEnds[] = []
  for (const { place, ends } of trimmed) {
    if (archives.chains.get(place.chain)?.marks.get(ends.baseSeq) === ends.baseHash) continue
    if (ends.baseSeq > place.seq && ageDays < minRetentionDays)
      faults.push({ chain: place.chain, seq: ends.baseSeq, fault: 'trimmed too early' })
    else open.push(ends)
  }
  if (open.length === 0) return faults
  const bases = await basesOnRecord(api, question)
  for (const { name, baseSeq } of open) {
    if (bases === undefined || bases.get(name) === baseSeq) continue
    faults.push({ chain: name, seq: baseSeq, fault: 'trimmed without a word' })
  }
  return faults
}

/**
 * The beginning of each chain as the last event of a trim since the checkpoint says; undefined where the system's chain was
 * trimmed itself beyond the checkpoint. Events that do not fit together end it: `event verify` names them elsewhere.
 */
async function basesOnRecord(
  api: Api,
  { chains, from }: TrimQuestion,
): Promise<ReadonlyMap<string, number> | undefined> {
  if ((chains.get(systemChain)?.baseSeq ?? 0) > from.seq) return undefined
  const bases = new Map<string, number>()
  let { hash } = from
  const after = { chain: systemChain, seq: from.seq }
  for await (const event of chainedEvents(api, { chain: systemChain, after })) {
    if (event.prevHash !== hash || hashEvent(event) !== event.hash) return bases
    hash = event.hash
    if (event.kind !== 'events-trimmed') continue
    const { bases: told } = JSON.parse(event.detail) as { bases?: Record<string, unknown> }
    for (const [chain, base] of Object.entries(told ?? {}))
      if (typeof base === 'number') bases.set(chain, base)
  }
  return bases
}
