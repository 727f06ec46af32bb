import type { SessionState } from '../domain/state.ts'
import type { Queries, Tx } from './database.ts'
import type { SessionRow, SessionStageRow, StageName } from './tables.ts'

/** Adds a session that has just opened stage 1. */
export async function insertSession(tx: Tx, row: SessionRow): Promise<void> {
  await tx.insertInto('sessions').values(row).execute()
  await tx
    .insertInto('session_stages')
    .values({ session: row.id, stage: 'stage1', opened_at: row.started_at, bytes: 0 })
    .execute()
}

/** Finds a session. */
export function findSession(db: Queries, id: string): Promise<SessionRow | undefined> {
  return db.selectFrom('sessions').selectAll().where('id', '=', id).executeTakeFirst()
}

/** The node's session that has not ended, if any. */
export function findLiveSession(db: Queries, node: string): Promise<SessionRow | undefined> {
  return db
    .selectFrom('sessions')
    .selectAll()
    .where('node', '=', node)
    .where('ended_at', 'is', null)
    .executeTakeFirst()
}

/** How many sessions the node has opened since `since`. */
export async function countSessionsSince(db: Queries, node: string, since: Date): Promise<number> {
  const { count } = await db
    .selectFrom('sessions')
    .select((e) => e.fn.countAll<number | string>().as('count'))
    .where('node', '=', node)
    .where('started_at', '>', since.toISOString())
    .executeTakeFirstOrThrow()
  return Number(count)
}

/** The node's sessions since `since`, the latest first; not more than any limit lets it have in an hour. */
export function listSessionsSince(db: Queries, node: string, since: Date): Promise<SessionRow[]> {
  return db
    .selectFrom('sessions')
    .selectAll()
    .where('node', '=', node)
    .where('started_at', '>', since.toISOString())
    .orderBy('started_at', 'desc')
    .limit(50)
    .execute()
}

/** Moves a session on: its state, the stage that opened (with a row of its own), and its idle timer. */
export async function advanceSession(
  tx: Tx,
  id: string,
  to: { state: SessionState; stage: StageName; endedAt?: Date },
  now: Date,
): Promise<void> {
  const at = now.toISOString()
  await tx
    .updateTable('sessions')
    .set({ state: to.state, stage: to.stage, last_seen_at: at, ended_at: to.endedAt?.toISOString() ?? null })
    .where('id', '=', id)
    .execute()
  await tx
    .insertInto('session_stages')
    .values({ session: id, stage: to.stage, opened_at: at, bytes: 0 })
    .onConflict((c) => c.doNothing())
    .execute()
}

/** Ends a session badly, with the reason. */
export async function endSession(
  tx: Tx,
  id: string,
  state: SessionState,
  cause: string,
  now: Date,
): Promise<void> {
  await tx
    .updateTable('sessions')
    .set({ state, cause, ended_at: now.toISOString() })
    .where('id', '=', id)
    .execute()
}

/** Notes that a session goes on from another address. */
export async function moveSession(tx: Tx, id: string, source: string): Promise<void> {
  await tx.updateTable('sessions').set({ source }).where('id', '=', id).execute()
}

/** Renews a session's idle timer. */
export async function touchSession(db: Queries, id: string, now: Date): Promise<void> {
  await db
    .updateTable('sessions')
    .set({ last_seen_at: now.toISOString() })
    .where('id', '=', id)
    .where('ended_at', 'is', null)
    .execute()
}

/** Adds downloaded bytes to a stage, and renews the idle timer. */
export async function addBytes(
  tx: Tx,
  id: string,
  stage: StageName,
  bytes: number,
  now: Date,
): Promise<void> {
  await tx
    .updateTable('session_stages')
    .set((e) => ({ bytes: e('bytes', '+', bytes) }))
    .where('session', '=', id)
    .where('stage', '=', stage)
    .execute()
  await touchSession(tx, id, now)
}

/** The stages a session has opened, in order of time. */
export function listStages(db: Queries, id: string): Promise<SessionStageRow[]> {
  return db.selectFrom('session_stages').selectAll().where('session', '=', id).orderBy('opened_at').execute()
}

/** Live sessions past their idle or whole lifetime, with the names of their nodes. */
export function listOverdue(
  db: Queries,
  idleSince: Date,
  now: Date,
  limit: number,
): Promise<{ id: string; nodeName: string }[]> {
  return db
    .selectFrom('sessions')
    .innerJoin('nodes', 'nodes.id', 'sessions.node')
    .select(['sessions.id', 'nodes.name as nodeName'])
    .where('sessions.ended_at', 'is', null)
    .where((e) =>
      e.or([
        e('sessions.last_seen_at', '<', idleSince.toISOString()),
        e('sessions.expires_at', '<=', now.toISOString()),
      ]),
    )
    .limit(limit)
    .execute()
}

const askedAtOnce = 1000

/** Of these sessions those that ended in a way that stops their downloads, or are not there any more. */
export async function listEndedOf(db: Queries, ids: readonly string[]): Promise<string[]> {
  const ended: string[] = []
  for (let at = 0; at < ids.length; at += askedAtOnce) {
    const asked = ids.slice(at, at + askedAtOnce)
    const rows = await db
      .selectFrom('sessions')
      .select('id')
      .where('id', 'in', asked)
      .where((e) => e.or([e('ended_at', 'is', null), e('state', '=', 'ready')]))
      .execute()
    const may = new Set(rows.map(({ id }) => id))
    ended.push(...asked.filter((id) => !may.has(id)))
  }
  return ended
}
