import type { BootContext } from '../boot/context.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import { type ChainFault, genesisHash, unknownChain } from '../domain/event.ts'
import { PawlError } from '../errors.ts'
import { lastCheckpoint, type PlaceNow, placesNotFound } from '../storage/checkpoints.ts'
import { listEvents } from '../storage/events.ts'
import { change } from './change.ts'
import { byServer } from './operators.ts'

/**
 * A checkpoint signs that the record goes on from the one before. Where it does not, a signature would make right what
 * somebody cut off or edited: the next verification would find all well. So the server does not sign, and says so.
 */

/** So many chains are named in the event. */
const mostNamed = 20

/**
 * Throws `conflict` unless every chain still has what checkpoint `last` names. The first time that it is found is on record,
 * as `checkpoint-refused`: the same again is not.
 */
export async function requireExtends(context: BootContext, last: number): Promise<void> {
  const { db } = context.storage
  const faults = (await placesNotFound(db, last)).flatMap((place) => faultOf(place) ?? [])
  const [first] = faults
  if (first === undefined) return
  // Another server may have signed since, and retention gone on behind that: then nothing here says anything.
  if ((await lastCheckpoint(db))?.seq !== last) return
  await tellOnce(context, { checkpoint: last, chains: faults.length, faults: faults.slice(0, mostNamed) })
  throw new PawlError(
    'conflict',
    `no checkpoint was signed: event ${first.seq} of chain ${first.chain} is ${first.fault} since checkpoint ${last}${
      faults.length === 1 ? '' : `, and ${faults.length - 1} more chains`
    }`,
    {
      hint: 'find out who could write to the database; verify it against a checkpoint kept elsewhere, and restore a backup',
    },
  )
}

function faultOf(place: PlaceNow): ChainFault | undefined {
  const { chain, seq, hash, baseSeq, baseHash, headSeq, found } = place
  if (baseSeq === null || headSeq === null) return { chain, seq: 1, fault: 'removed' }
  if (headSeq < seq) return { chain, seq: headSeq + 1, fault: 'cut off' }
  if (baseSeq > seq) return chain === unknownChain ? undefined : { chain, seq, fault: 'trimmed too early' }
  const now = seq === 0 ? genesisHash : seq === baseSeq ? baseHash : found
  if (now === null) return { chain, seq, fault: 'missing' }
  return now === hash ? undefined : { chain, seq, fault: 'edited' }
}

async function tellOnce(context: BootContext, detail: Readonly<Record<string, unknown>>): Promise<void> {
  const [told] = await listEvents(context.storage.db, { kind: 'checkpoint-refused', newest: true, limit: 1 })
  const { via: _, ...before } = JSON.parse(told?.detail ?? '{}') as Record<string, unknown>
  if (canonicalJson(before) === canonicalJson(detail)) return
  await change(context, byServer, ({ note }) => note('checkpoint-refused', null, detail))
}
