import { unknownChain } from '../domain/event.ts'
import { endsOf } from './chains.ts'
import type { Queries, Tx } from './database.ts'

/** A chain that may begin with events that are due for removal. */
export interface TrimCandidate {
  readonly name: string
  readonly baseSeq: number
  readonly baseHash: string
  /** The last event that a signed checkpoint covers. */
  readonly covered: number
  /** The hash that the checkpoint gives for it. */
  readonly coveredHash: string
}

/** Chains behind `after` whose oldest event is from before `cutoff` and covered by a checkpoint, by name. */
export async function trimCandidates(
  db: Queries,
  { cutoff, after, limit }: { cutoff: string; after: string; limit: number },
): Promise<TrimCandidate[]> {
  const rows = await db
    .selectFrom('chains')
    .innerJoin('events', (join) =>
      join
        .onRef('events.chain', '=', 'chains.name')
        .on((e) => e('events.seq', '=', e('chains.base_seq', '+', 1))),
    )
    .innerJoin('checkpoint_heads as h', (join) =>
      join
        .onRef('h.chain', '=', 'chains.name')
        .onRef('h.seq', '>', 'chains.base_seq')
        .on('h.checkpoint', '=', (e) =>
          e
            .selectFrom('checkpoint_heads as newest')
            .select((f) => f.fn.max('newest.checkpoint').as('checkpoint'))
            .whereRef('newest.chain', '=', 'chains.name'),
        ),
    )
    .selectAll('chains')
    .select(['h.seq as covered', 'h.hash as coveredHash'])
    .where('events.at', '<', cutoff)
    .where('chains.name', '>', after)
    .where('chains.name', '<>', unknownChain) // has its own bound
    .orderBy('chains.name')
    .limit(limit)
    .execute()
  return rows.map(({ covered, coveredHash, ...row }) => {
    const { name, baseSeq, baseHash } = endsOf(row)
    return { name, baseSeq, baseHash, covered, coveredHash }
  })
}

/** Moves a chain's base along and removes what is behind it; false where another process has moved it. */
export async function moveBase(
  tx: Tx,
  { name, baseSeq }: Pick<TrimCandidate, 'name' | 'baseSeq'>,
  to: { readonly seq: number; readonly hash: string },
): Promise<boolean> {
  const moved = await tx
    .updateTable('chains')
    .set({ base_seq: to.seq, base_hash: to.hash })
    .where('name', '=', name)
    .where('base_seq', '=', baseSeq)
    .executeTakeFirst()
  if (moved.numUpdatedRows === 0n) return false
  await tx.deleteFrom('events').where('chain', '=', name).where('seq', '<=', to.seq).execute()
  return true
}
