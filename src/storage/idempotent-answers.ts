import type { IdempotentAnswerRow } from './api-tables.ts'
import type { Queries, Tx } from './database.ts'

type Key = Pick<IdempotentAnswerRow, 'actor' | 'key_hash'>

/** Finds the first answer under a key that is not older than `since`. */
export function findAnswer(
  db: Queries,
  { actor, key_hash }: Key,
  since: string,
): Promise<IdempotentAnswerRow | undefined> {
  return db
    .selectFrom('idempotent_answers')
    .selectAll()
    .where('actor', '=', actor)
    .where('key_hash', '=', key_hash)
    .where('created_at', '>', since)
    .executeTakeFirst()
}

/**
 * Takes a key, if nobody has it; says whether it did. On PostgreSQL this waits for a transaction that has just taken it, so
 * that whoever comes second finds the answer.
 */
export async function takeKey(tx: Tx, row: IdempotentAnswerRow): Promise<boolean> {
  const result = await tx
    .insertInto('idempotent_answers')
    .values(row)
    .onConflict((c) => c.doNothing())
    .executeTakeFirst()
  return result.numInsertedOrUpdatedRows === 1n
}

/** Stores the answer to the request that took the key. */
export async function storeAnswer(tx: Tx, { actor, key_hash }: Key, answer: string): Promise<void> {
  await tx
    .updateTable('idempotent_answers')
    .set({ answer })
    .where('actor', '=', actor)
    .where('key_hash', '=', key_hash)
    .execute()
}

/** Drops an actor's answers that are too old, and the oldest of those that are too many. */
export async function dropAnswers(tx: Tx, actor: string, before: string, keep: number): Promise<void> {
  await dropOldAnswers(tx, before, actor)
  const edge = await tx
    .selectFrom('idempotent_answers')
    .select('created_at')
    .where('actor', '=', actor)
    .orderBy('created_at', 'desc')
    .offset(keep)
    .limit(1)
    .executeTakeFirst()
  if (edge !== undefined) await dropOldAnswers(tx, edge.created_at, actor)
}

/** Drops answers that are too old; of one actor, or of all. */
export async function dropOldAnswers(db: Queries, before: string, actor?: string): Promise<void> {
  const query = db.deleteFrom('idempotent_answers').where('created_at', '<=', before)
  await (actor === undefined ? query : query.where('actor', '=', actor)).execute()
}
