import { sql } from 'kysely'
import type { StageName } from '../domain/stage.ts'
import type { SessionState } from '../domain/state.ts'
import type { Queries, Tx } from './database.ts'
import { statement } from './statement.ts'
import type { SessionRow, SessionStageRow } from './tables.ts'

/** Its columns. One that is not here does not compile. */
export const sessionColumns = Object.keys({
  ...{ id: true, node: true, sequence: true, tokens: true, local: true, state: true, stage: true },
  ...{ cause: true, pinned: true, facts: true, source: true },
  ...{ started_at: true, last_seen_at: true, expires_at: true, ended_at: true },
} satisfies Record<keyof SessionRow, true>) as (keyof SessionRow)[] // its own keys

const insert = statement<SessionRow>()((db, value) =>
  db
    .insertInto('sessions')
    .values(Object.fromEntries(sessionColumns.map((name) => [name, value(name)])) as unknown as SessionRow),
)
const insertStage = statement<{ session: string; stage: StageName; at: string }>()((db, value) =>
  db
    .insertInto('session_stages')
    .values({ session: value('session'), stage: value('stage'), opened_at: value('at'), bytes: 0 })
    .onConflict((c) => c.doNothing()),
)

/** Adds a session that has just opened stage 1. */
export async function insertSession(tx: Tx, row: SessionRow): Promise<void> {
  await insert.change(tx, row)
  await insertStage.change(tx, { session: row.id, stage: 'stage1', at: row.started_at })
}

const byId = statement<{ id: string }>()((db, value) =>
  db.selectFrom('sessions').selectAll().where('id', '=', value('id')),
)

/** Finds a session. */
export function findSession(db: Queries, id: string): Promise<SessionRow | undefined> {
  return byId.first(db, { id })
}

const live = statement<{ node: string }>()((db, value) =>
  db.selectFrom('sessions').selectAll().where('node', '=', value('node')).where('ended_at', 'is', null),
)

/** The node's session that has not ended, if any. */
export function findLiveSession(db: Queries, node: string): Promise<SessionRow | undefined> {
  return live.first(db, { node })
}

/** How a session went, in short. */
export type PastSession = Pick<SessionRow, 'started_at' | 'state' | 'cause' | 'ended_at'>

const pastSince = statement<{ node: string; since: string; limit: number }>()((db, value) =>
  db
    .selectFrom('sessions')
    .select(['started_at', 'state', 'cause', 'ended_at'])
    .where('node', '=', value('node'))
    .where('started_at', '>', value('since'))
    .orderBy('started_at', 'desc')
    .limit(value('limit')),
)

/** The node's sessions since a time, the latest first; the last ones, where they are many. */
export function listBootsSince(
  db: Queries,
  of: { readonly node: string; readonly since: string; readonly limit: number },
): Promise<PastSession[]> {
  return pastSince.all(db, of)
}

/** Who opened a session, from where and when. */
export type SessionOpened = Pick<SessionRow, 'source' | 'started_at' | 'facts'>

const openedSince = statement<{ node: string; since: string }>()((db, value) =>
  db
    .selectFrom('sessions')
    .select(['source', 'started_at', 'facts'])
    .where('node', '=', value('node'))
    .where('started_at', '>', value('since'))
    .orderBy('started_at', 'desc')
    .limit(50),
)

/** Who opened the node's sessions since `since`, the latest first; not more than any limit lets it have in an hour. */
export function listSessionsSince(db: Queries, node: string, since: Date): Promise<SessionOpened[]> {
  return openedSince.all(db, { node, since: since.toISOString() })
}

interface Advance {
  readonly id: string
  readonly state: SessionState
  readonly stage: StageName
  readonly at: string
}

const advance = statement<Advance>()((db, value) =>
  db
    .updateTable('sessions')
    .set({ state: value('state'), stage: value('stage'), last_seen_at: value('at') })
    .where('id', '=', value('id')),
)
/** The same at a session's end. SQLite writes the indexes of what is set, also where it is set to what it was. */
const advanceToEnd = statement<Advance & { readonly ended: string }>()((db, value) =>
  db
    .updateTable('sessions')
    .set({
      state: value('state'),
      stage: value('stage'),
      last_seen_at: value('at'),
      ended_at: value('ended'),
    })
    .where('id', '=', value('id')),
)

/** Moves a session on: its state, the stage that opened (with a row of its own), and its idle timer. */
export async function advanceSession(
  tx: Tx,
  id: string,
  to: { state: SessionState; stage: StageName; endedAt?: Date },
  now: Date,
): Promise<void> {
  const at = now.toISOString()
  const { state, stage, endedAt } = to
  if (endedAt === undefined) await advance.change(tx, { id, state, stage, at })
  else await advanceToEnd.change(tx, { id, state, stage, at, ended: endedAt.toISOString() })
  await insertStage.change(tx, { session: id, stage, at })
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

const touch = statement<{ id: string; at: string }>()((db, value) =>
  db
    .updateTable('sessions')
    .set({ last_seen_at: value('at') })
    .where('id', '=', value('id'))
    .where('ended_at', 'is', null),
)

/** Renews a session's idle timer. */
export async function touchSession(db: Queries, id: string, now: Date): Promise<void> {
  await touch.change(db, { id, at: now.toISOString() })
}

/** What was sent to a session in one of its stages, until then. */
export interface Progress {
  readonly session: string
  readonly stage: StageName
  readonly bytes: number
  readonly at: Date
}

/** Adds downloaded bytes to the stages of many sessions, and renews their idle timers. At most one of each stage. */
export async function addProgress(tx: Tx, all: readonly Progress[]): Promise<void> {
  if (all.length === 0) return
  // Of two that do so at once each takes the rows in the same order.
  const sorted = all.toSorted((one, other) => (one.session < other.session ? -1 : 1))
  const rows = sorted.map(
    ({ session, stage, bytes, at }) =>
      sql`(${session}, ${stage}, cast(${bytes} as bigint), ${at.toISOString()})`,
  )
  // PostgreSQL and SQLite name the columns of values alike.
  const sent = sql`(values ${sql.join(rows)}) as sent`
  await sql`update sessions set last_seen_at = sent.column4 from ${sent}
    where sessions.id = sent.column1 and ended_at is null and last_seen_at < sent.column4`.execute(tx)
  await sql`update session_stages set bytes = bytes + sent.column3 from ${sent}
    where session_stages.session = sent.column1 and stage = sent.column2`.execute(tx)
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

/** Sessions that may be sent bytes: one that became ready may still be read by its machine, until that is disabled. */
const maySend = (db: Queries) =>
  db
    .selectFrom('sessions')
    .innerJoin('nodes', 'nodes.id', 'sessions.node')
    .select('sessions.id')
    .where((e) => e.or([e('sessions.ended_at', 'is', null), e('sessions.state', '=', 'ready')]))
    .where('nodes.state', '!=', 'disabled')

const sendable = statement<{ id: string }>()((db, value) =>
  maySend(db).where('sessions.id', '=', value('id')),
)

/** Whether a session may be sent bytes. */
export async function isSendable(db: Queries, id: string): Promise<boolean> {
  return (await sendable.first(db, { id })) !== undefined
}

/** Of these sessions those that may not be sent bytes any more, or are not there. */
export async function listEndedOf(db: Queries, ids: readonly string[]): Promise<string[]> {
  const ended: string[] = []
  for (let at = 0; at < ids.length; at += askedAtOnce) {
    const asked = ids.slice(at, at + askedAtOnce)
    const rows = await maySend(db).where('sessions.id', 'in', asked).execute()
    const may = new Set(rows.map(({ id }) => id))
    ended.push(...asked.filter((id) => !may.has(id)))
  }
  return ended
}

/** The node's newest session. */
export function findNewestSession(db: Queries, node: string): Promise<{ id: string } | undefined> {
  return db
    .selectFrom('sessions')
    .select('id')
    .where('node', '=', node)
    .orderBy('started_at', 'desc')
    .limit(1)
    .executeTakeFirst()
}
