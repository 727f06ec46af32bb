import { compactVerify, createLocalJWKSet } from 'jose'
import { checkpointAlgorithm } from '../../domain/checkpoint.ts'
import {
  type ChainEnds,
  type ChainedEvent,
  type ChainFault,
  hashEvent,
  systemChain,
} from '../../domain/event.ts'
import { minRetentionDays } from '../../domain/retention.ts'
import { type ChainBase, parseTrimClaims, trimType } from '../../domain/trim.ts'
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

/** What is wrong, and of which chains the word of their trim was itself removed in its time. */
export interface ExplainedTrims {
  readonly faults: readonly ChainFault[]
  readonly unproven: readonly { readonly chain: string; readonly from: number; readonly to: number }[]
}

/**
 * Retention removes events, and so would someone who wants them gone: each chain that begins later than the checkpoint says
 * must be explained by a trim in the system's chain (read and computed here) whose statement a trusted key has signed: who
 * only writes the database cannot make one. And a chain that was trimmed beyond a checkpoint which is younger than any
 * retention cannot have been trimmed rightly. What an archive holds up to the chain's beginning needs no word more.
 */
export async function explainTrims(api: Api, question: TrimQuestion): Promise<ExplainedTrims> {
  const { checkpoint, chains, archives, now, from } = question
  const ageDays = (now.getTime() - Date.parse(checkpoint.statement.at)) / 86_400_000
  const trimmed = checkpoint.places.flatMap((place) => {
    const ends = chains.get(place.chain)
    const isTrimmed = ends !== undefined && ends.baseSeq > place.baseSeq && !isBounded(place.chain)
    return isTrimmed ? [{ place, ends }] : []
  })
  const faults: ChainFault[] = []
  const open: typeof trimmed = []
  for (const { place, ends } of trimmed) {
    if (archives.chains.get(place.chain)?.marks.get(ends.baseSeq) === ends.baseHash) continue
    if (ends.baseSeq > place.seq && ageDays < minRetentionDays)
      faults.push({ chain: place.chain, seq: ends.baseSeq, fault: 'trimmed too early' })
    else open.push({ place, ends })
  }
  if (open.length === 0) return { faults, unproven: [] }
  const { bases, foreign } = await basesOnRecord(api, question)
  const wordsMayBeGone = isTrimmedBeyond(chains, from.seq)
  const unproven: ExplainedTrims['unproven'][number][] = []
  for (const { place, ends } of open) {
    const base = { chain: ends.name, seq: ends.baseSeq, hash: ends.baseHash }
    if (bases.has(keyOf(base))) continue
    // The system's own last trim is behind its beginning always. Those of others go with it, in their time.
    if (wordsMayBeGone && ends.name !== systemChain && !foreign.has(ends.name))
      unproven.push({ chain: ends.name, from: place.baseSeq + 1, to: ends.baseSeq })
    else faults.push({ chain: ends.name, seq: ends.baseSeq, fault: faultOf(foreign.get(ends.name)) })
  }
  return { faults, unproven }
}

type Foreign = 'unsigned' | 'unknown key'

function faultOf(foreign: Foreign | undefined): ChainFault['fault'] {
  if (foreign === undefined) return 'trimmed without a word'
  return foreign === 'unsigned' ? 'trimmed without a signature' : 'trimmed under an unknown key'
}

function isTrimmedBeyond(chains: ReadonlyMap<string, ChainEnds>, seq: number): boolean {
  return (chains.get(systemChain)?.baseSeq ?? 0) > seq
}

/**
 * The beginnings that trims have signed, from the checkpoint on or from where the system's chain begins now, and the chains
 * that others speak of. Events that do not fit together end it: `event verify` names them elsewhere.
 */
async function basesOnRecord(
  api: Api,
  { chains, from, checkpoint }: TrimQuestion,
): Promise<{ bases: ReadonlySet<string>; foreign: ReadonlyMap<string, Foreign> }> {
  const own = chains.get(systemChain)
  const begin =
    own !== undefined && isTrimmedBeyond(chains, from.seq) ? { seq: own.baseSeq, hash: own.baseHash } : from
  const bases = new Set<string>()
  const foreign = new Map<string, Foreign>()
  let { hash } = begin
  const after = { chain: systemChain, seq: begin.seq }
  for await (const event of chainedEvents(api, { chain: systemChain, after })) {
    if (event.prevHash !== hash || hashEvent(event) !== event.hash) break
    hash = event.hash
    if (event.kind !== 'events-trimmed') continue
    const { signed, told, why } = await readTrim(event, checkpoint)
    for (const base of signed) bases.add(keyOf(base))
    if (why !== undefined) for (const chain of told) foreign.set(chain, why)
  }
  return { bases, foreign }
}

/** What a trim's event says and has signed; and why not, where it has not. */
async function readTrim(
  { detail }: ChainedEvent,
  { keys, authorities }: VerifiedCheckpoint,
): Promise<{ signed: readonly ChainBase[]; told: readonly string[]; why?: Foreign }> {
  const { bases = {}, jws } = JSON.parse(detail) as { bases?: object; jws?: unknown }
  const told = Object.keys(bases)
  if (typeof jws !== 'string') return { signed: [], told, why: 'unsigned' }
  try {
    const { payload, protectedHeader } = await compactVerify(jws, createLocalJWKSet(keys), {
      algorithms: [checkpointAlgorithm],
    })
    const claims = parseTrimClaims(new TextDecoder().decode(payload))
    if (protectedHeader.typ !== trimType || !authorities.includes(claims.authority))
      return { signed: [], told, why: 'unsigned' }
    return { signed: claims.bases, told }
  } catch (error) {
    const isUnknown = (error as { code?: unknown }).code === 'ERR_JWKS_NO_MATCHING_KEY'
    return { signed: [], told, why: isUnknown ? 'unknown key' : 'unsigned' }
  }
}

function keyOf({ chain, seq, hash }: ChainBase): string {
  return `${seq} ${hash} ${chain}`
}
