import { sql } from 'kysely'
import type { Queries, Storage, Tx } from './database.ts'

/** Any number of ours: two transactions that ask for it run one behind the other. */
const artifactsLock = 7_061_776

/**
 * Keeps publishing and pruning apart until the transaction ends: each looks at what the other writes. SQLite has one writer
 * at a time anyway.
 */
export async function lockArtifacts(tx: Tx, dialect: Storage['dialect']): Promise<void> {
  if (dialect === 'postgres') await sql`select pg_advisory_xact_lock(${artifactsLock})`.execute(tx)
}

/** Of these artifacts, those that some image holds. */
export async function findHeld(db: Queries, digests: readonly string[]): Promise<Set<string>> {
  const held = new Set<string>()
  for (const part of parts(digests)) {
    const rows = await db.selectFrom('image_artifacts').select('digest').where('digest', 'in', part).execute()
    for (const { digest } of rows) held.add(digest)
  }
  return held
}

/** Of these artifacts, those that are being removed, or were and have not been sent again. */
export async function findRemovals(
  db: Queries,
  digests: readonly string[],
): Promise<{ digest: string; removed_at: string | null }[]> {
  if (digests.length === 0) return []
  return db
    .selectFrom('artifact_removals')
    .select(['digest', 'removed_at'])
    .where('digest', 'in', digests)
    .execute()
}

/** Removals that a process began and did not finish. */
export async function listUnfinishedRemovals(db: Queries): Promise<string[]> {
  const rows = await db
    .selectFrom('artifact_removals')
    .select('digest')
    .where('removed_at', 'is', null)
    .execute()
  return rows.map(({ digest }) => digest)
}

/** Begins to remove artifacts: from now on nothing can be published that names them. */
export async function beginRemovals(tx: Tx, digests: readonly string[], now: Date): Promise<void> {
  if (digests.length === 0) return
  const started_at = now.toISOString()
  await tx
    .insertInto('artifact_removals')
    .values(digests.map((digest) => ({ digest, started_at, removed_at: null })))
    .onConflict((c) => c.column('digest').doUpdateSet({ started_at, removed_at: null }))
    .execute()
}

/** The artifact's bytes are gone. */
export async function endRemoval(tx: Tx, digest: string, now: Date): Promise<void> {
  await tx
    .updateTable('artifact_removals')
    .set({ removed_at: now.toISOString() })
    .where('digest', '=', digest)
    .execute()
}

/** The artifact has been sent again. */
export async function forgetRemoval(tx: Tx, digest: string): Promise<void> {
  await tx
    .deleteFrom('artifact_removals')
    .where('digest', '=', digest)
    .where('removed_at', 'is not', null)
    .execute()
}

/** Removals so old that no publication can still be under way that saw the artifact. */
export async function forgetOldRemovals(tx: Tx, before: Date): Promise<void> {
  await tx.deleteFrom('artifact_removals').where('removed_at', '<', before.toISOString()).execute()
}

function* parts(digests: readonly string[]): Generator<readonly string[]> {
  for (let at = 0; at < digests.length; at += 500) yield digests.slice(at, at + 500)
}
