import type { ChainPlace } from '../domain/checkpoint.ts'
import type { CheckpointKeyRow, CheckpointRow } from './audit-tables.ts'
import { inChunks } from './chunks.ts'
import type { Queries, Tx } from './database.ts'

/** The newest checkpoint. */
export function lastCheckpoint(db: Queries): Promise<CheckpointRow | undefined> {
  return db.selectFrom('checkpoints').selectAll().orderBy('seq', 'desc').limit(1).executeTakeFirst()
}

/** A checkpoint by its number. */
export function findCheckpoint(db: Queries, seq: number): Promise<CheckpointRow | undefined> {
  return db.selectFrom('checkpoints').selectAll().where('seq', '=', seq).executeTakeFirst()
}

/** Checkpoints with a smaller number than `before`, the newest first. */
export function listCheckpoints(
  db: Queries,
  { before, limit }: { before: number | undefined; limit: number },
): Promise<CheckpointRow[]> {
  const query = db.selectFrom('checkpoints').selectAll().orderBy('seq', 'desc').limit(limit)
  return (before === undefined ? query : query.where('seq', '<', before)).execute()
}

/** Where every chain was when checkpoint `seq` was signed. */
export async function placesAt(db: Queries, seq: number): Promise<ChainPlace[]> {
  const rows = await db
    .selectFrom('checkpoint_heads as h')
    .select(['h.chain', 'h.base_seq as baseSeq', 'h.seq', 'h.hash'])
    .where('h.checkpoint', '=', (e) =>
      e
        .selectFrom('checkpoint_heads as newest')
        .select((f) => f.fn.max('newest.checkpoint').as('checkpoint'))
        .whereRef('newest.chain', '=', 'h.chain')
        .where('newest.checkpoint', '<=', seq),
    )
    .execute()
  return rows
}

/** A chain that checkpoint `seq` names, and what is there now at the number that it names. */
export interface PlaceNow {
  readonly chain: string
  readonly seq: number
  readonly hash: string
  /** Null where the chain is gone. */
  readonly baseSeq: number | null
  readonly baseHash: string | null
  readonly headSeq: number | null
  /** The hash of the event at that number; null where there is none. */
  readonly found: string | null
}

/** Of the places at checkpoint `seq`, those where the event is not there with its hash; all of them at one moment. */
export function placesNotFound(db: Queries, seq: number): Promise<PlaceNow[]> {
  return db
    .selectFrom('checkpoint_heads as h')
    .leftJoin('chains as c', 'c.name', 'h.chain')
    .leftJoin('events as e', (join) => join.onRef('e.chain', '=', 'h.chain').onRef('e.seq', '=', 'h.seq'))
    .select(['h.chain', 'h.seq', 'h.hash', 'e.hash as found'])
    .select(['c.base_seq as baseSeq', 'c.base_hash as baseHash', 'c.head_seq as headSeq'])
    .where('h.checkpoint', '=', (e) =>
      e
        .selectFrom('checkpoint_heads as newest')
        .select((f) => f.fn.max('newest.checkpoint').as('checkpoint'))
        .whereRef('newest.chain', '=', 'h.chain')
        .where('newest.checkpoint', '<=', seq),
    )
    .where((e) =>
      e.or([
        e('e.hash', 'is', null),
        e('c.head_seq', 'is', null),
        e('e.hash', '<>', e.ref('h.hash')),
        e('c.head_seq', '<', e.ref('h.seq')),
      ]),
    )
    .orderBy('h.chain')
    .execute()
}

/** Stores a checkpoint, with the places of those chains that are not where the one before says. */
export async function insertCheckpoint(
  tx: Tx,
  row: CheckpointRow,
  moved: readonly ChainPlace[],
): Promise<void> {
  await tx.insertInto('checkpoints').values(row).execute()
  const rows = moved.map(({ chain, baseSeq, seq, hash }) => ({
    ...{ chain, checkpoint: row.seq, base_seq: baseSeq },
    ...{ seq, hash },
  }))
  for (const some of inChunks(rows, 5)) await tx.insertInto('checkpoint_heads').values(some).execute()
}

/** Removes places that later ones stand in for, of checkpoints before `at`: those checkpoints have no list any more. */
export async function forgetPlaces(tx: Tx, at: string): Promise<void> {
  const kept = await tx
    .selectFrom('checkpoints')
    .select((e) => e.fn.max('seq').as('seq'))
    .where('at', '<', at)
    .executeTakeFirst()
  if (kept?.seq == null) return
  const { seq } = kept
  await tx
    .deleteFrom('checkpoint_heads')
    .where('checkpoint', '<', seq)
    .where((e) =>
      e.exists(
        e
          .selectFrom('checkpoint_heads as later')
          .select('later.chain')
          .whereRef('later.chain', '=', 'checkpoint_heads.chain')
          .whereRef('later.checkpoint', '>', 'checkpoint_heads.checkpoint')
          .where('later.checkpoint', '<=', seq),
      ),
    )
    .execute()
}

/** Every key that ever signed, the oldest first. */
export function listCheckpointKeys(db: Queries): Promise<CheckpointKeyRow[]> {
  return db.selectFrom('checkpoint_keys').selectAll().orderBy('created_at').orderBy('kid').execute()
}

/** A key by its name. */
export function findCheckpointKey(db: Queries, kid: string): Promise<CheckpointKeyRow | undefined> {
  return db.selectFrom('checkpoint_keys').selectAll().where('kid', '=', kid).executeTakeFirst()
}

/** Stores a key unless it is there. */
export async function insertCheckpointKey(tx: Tx, row: CheckpointKeyRow): Promise<void> {
  await tx
    .insertInto('checkpoint_keys')
    .values(row)
    .onConflict((c) => c.doNothing())
    .execute()
}

/** Ends the use of every key but one. */
export async function retireCheckpointKeys(tx: Tx, at: string, but: string): Promise<void> {
  await tx
    .updateTable('checkpoint_keys')
    .set({ retired_at: at })
    .where('retired_at', 'is', null)
    .where('kid', '<>', but)
    .execute()
}
