import type { BootContext } from '../boot/context.ts'
import { ChainVerifier } from '../domain/chain-verifier.ts'
import { authorityOf } from '../domain/checkpoint.ts'
import { addSeconds } from '../domain/clock.ts'
import type { ChainFault } from '../domain/event.ts'
import { minRetentionDays } from '../domain/retention.ts'
import { PawlError } from '../errors.ts'
import { listChained } from '../storage/chains.ts'
import { forgetPlaces, insertCheckpointKey, lastCheckpoint } from '../storage/checkpoints.ts'
import { moveBase, type TrimCandidate, trimCandidates } from '../storage/retention.ts'
import { listWebhooks } from '../storage/webhooks.ts'
import { change } from './change.ts'
import { type CheckpointSigner, usableKey } from './checkpoints.ts'
import { byServer } from './operators.ts'
import { untaken } from './webhook-wants.ts'

/** What was removed, and which chains were left as they are because their oldest events do not fit together. */
export interface Trimmed {
  readonly chains: number
  readonly events: number
  readonly faults: readonly ChainFault[]
}

/** So many chains, and so many events of each, go in one transaction: a boot that waits for its chain waits milliseconds. */
const batch = { chains: 20, events: 100 }

interface Cut {
  readonly chain: TrimCandidate
  readonly to: { readonly seq: number; readonly hash: string }
}

/**
 * Removes events that are older than `days`, from the old end of each chain and only up to what a signed checkpoint covers.
 * Each batch is one transaction with the event that says what it removed, so that it can be cut off anywhere; the event
 * carries a signature over the new beginnings, which nobody can make who only writes the database. What does not verify is
 * not removed: it is evidence.
 */
export async function trimOldEvents(
  context: BootContext,
  signer: CheckpointSigner,
  days: number,
): Promise<Trimmed> {
  if (days < minRetentionDays)
    throw new PawlError('invalid', `events are kept at least ${minRetentionDays} days, not ${days}`)
  const { db } = context.storage
  const cutoff = addSeconds(context.clock(), -days * 86_400).toISOString()
  const total = { chains: new Set<string>(), events: 0, faults: new Map<string, ChainFault>() }
  for (let after = ''; ; ) {
    const candidates = await trimCandidates(db, { cutoff, after, limit: batch.chains })
    const last = candidates.at(-1)
    if (last === undefined) break
    const { cuts, faults } = await cutsOf(context, candidates, cutoff)
    for (const fault of faults) total.faults.set(fault.chain, fault)
    for (const { name } of await trim(context, signer, cuts, { cutoff, days })) total.chains.add(name)
    total.events += cuts.reduce((sum, { chain, to }) => sum + to.seq - chain.baseSeq, 0)
    // Long chains take several turns; those that moved nothing are passed by.
    if (cuts.length === 0) after = last.name
    await new Promise((resolve) => setImmediate(resolve)) // boots go first
  }
  await context.storage.transaction((tx) => forgetPlaces(tx, cutoff))
  return { chains: total.chains.size, events: total.events, faults: [...total.faults.values()] }
}

/** How far each chain can be cut, and which does not fit together. */
async function cutsOf(
  { storage: { db } }: BootContext,
  candidates: readonly TrimCandidate[],
  cutoff: string,
): Promise<{ cuts: Cut[]; faults: ChainFault[] }> {
  const cuts: Cut[] = []
  const faults: ChainFault[] = []
  for (const chain of candidates) {
    const { name, baseSeq, baseHash, covered, coveredHash } = chain
    const events = await listChained(db, {
      chain: name,
      after: { chain: name, seq: baseSeq },
      limit: batch.events,
    })
    const ends = { name, baseSeq, baseHash, headSeq: covered, headHash: coveredHash }
    const verifier = new ChainVerifier(ends)
    let to: Cut['to'] | undefined
    let fault: ChainFault | undefined
    for (const event of events) {
      if (event.seq > covered || event.at >= cutoff) break
      fault = verifier.accept(event)
      if (fault === undefined && event.seq === covered) fault = verifier.finish() // as the checkpoint has it?
      if (fault !== undefined) break
      to = { seq: event.seq, hash: event.hash }
    }
    if (fault !== undefined) faults.push(fault)
    else if (to !== undefined) cuts.push({ chain, to })
  }
  return { cuts, faults }
}

async function trim(
  context: BootContext,
  signer: CheckpointSigner,
  cuts: readonly Cut[],
  { cutoff, days }: { cutoff: string; days: number },
): Promise<TrimCandidate[]> {
  if (cuts.length === 0) return []
  const checkpoint = await lastCheckpoint(context.storage.db)
  const { kid, jwk } = await usableKey(context.storage.db, signer)
  return change(context, byServer, async ({ tx, now, note }) => {
    const done: Cut[] = []
    const webhooks = await listWebhooks(tx)
    const lost = new Map<string, number>()
    for (const cut of cuts) {
      const untook = await untaken(tx, webhooks, { chain: cut.chain.name, seq: cut.to.seq })
      if (!(await moveBase(tx, cut.chain, cut.to))) continue
      done.push(cut)
      for (const [name, count] of untook) lost.set(name, (lost.get(name) ?? 0) + count)
    }
    if (done.length === 0) return []
    for (const [webhook, count] of lost) await note('webhook-events-lost', null, { webhook, count, cutoff })
    // A server that has signed no checkpoint yet may remove what another's covers: its key must be known too.
    await insertCheckpointKey(tx, {
      ...{ kid, jwk: JSON.stringify(jwk), created_at: now.toISOString(), retired_at: null },
    })
    const jws = await signer.signTrim({
      issuer: context.settings.publicUrl,
      authority: authorityOf(context.rootCertificate()),
      at: new Date(Math.floor(now.getTime() / 1000) * 1000).toISOString(),
      cutoff,
      bases: done.map(({ chain, to }) => ({ chain: chain.name, ...to })),
    })
    await note('events-trimmed', null, {
      cutoff,
      days,
      checkpoint: checkpoint?.seq ?? null,
      chains: done.length,
      events: done.reduce((sum, { chain, to }) => sum + to.seq - chain.baseSeq, 0),
      bases: Object.fromEntries(done.map(({ chain, to }) => [chain.name, to.seq])),
      jws,
    })
    return done.map(({ chain }) => chain)
  })
}
