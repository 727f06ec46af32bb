import type { StageName } from '../domain/stage.ts'
import type { SessionState } from '../domain/state.ts'
import type { Queries, Tx } from './database.ts'
import type { SessionLogRow, SessionSpanRow } from './span-tables.ts'
import { type Statement, statement } from './statement.ts'

const columns = [
  ...(['session', 'stage', 'kind', 'at', 'seconds', 'bytes'] as const),
  ...(['detail', 'agent', 'tls', 'told', 'times'] as const),
] satisfies (keyof SessionSpanRow)[]

/** So many rows in one statement, compiled once: a boot leaves some fifteen. */
const widths = [20, 4, 1]

function inserting(width: number): Statement<Record<string, unknown>, unknown> {
  return statement<Record<string, unknown>>()((db, value) => {
    const row = (at: number) =>
      Object.fromEntries(columns.map((name) => [name, value(`${name}${at}`)])) as unknown as SessionSpanRow
    return db.insertInto('session_spans').values(Array.from({ length: width }, (_, at) => row(at)))
  })
}

const inserts = widths.map((width) => ({ width, insert: inserting(width) }))

/** Writes spans. */
export async function insertSpans(tx: Tx, rows: readonly SessionSpanRow[]): Promise<void> {
  let done = 0
  for (const { width, insert } of inserts) {
    for (; rows.length - done >= width; done += width) {
      const values = rows
        .slice(done, done + width)
        .flatMap((row, at) => columns.map((name) => [`${name}${at}`, row[name]] as const))
      await insert.change(tx, Object.fromEntries(values))
    }
  }
}

/** Of these sessions those that are still there. */
export async function listKnownSessions(db: Queries, ids: readonly string[]): Promise<Set<string>> {
  const rows = await db.selectFrom('sessions').select('id').where('id', 'in', ids).execute()
  return new Set(rows.map(({ id }) => id))
}

/** How many spans of each kind these sessions have. */
export async function countSpans(
  db: Queries,
  sessions: readonly string[],
): Promise<{ session: string; kind: SessionSpanRow['kind']; count: number }[]> {
  const rows = await db
    .selectFrom('session_spans')
    .select(['session', 'kind', (e) => e.fn.countAll<number | string>().as('count')])
    .where('session', 'in', sessions)
    .groupBy(['session', 'kind'])
    .execute()
  return rows.map((row) => ({ ...row, count: Number(row.count) }))
}

/** Counts spans beyond the bound on the last one of their kind. */
export async function addTimes(
  tx: Tx,
  { session, kind, times }: Pick<SessionSpanRow, 'session' | 'kind' | 'times'>,
): Promise<void> {
  const last = tx
    .selectFrom('session_spans')
    .select((e) => e.fn.max('at').as('at'))
    .where('session', '=', session)
    .where('kind', '=', kind)
  await tx
    .updateTable('session_spans')
    .set((e) => ({ times: e('times', '+', times) }))
    .where('session', '=', session)
    .where('kind', '=', kind)
    .where('at', '=', last)
    .execute()
}

/** The spans of a session, in order of time. */
export async function listSpans(db: Queries, session: string): Promise<SessionSpanRow[]> {
  const rows = await db
    .selectFrom('session_spans')
    .selectAll()
    .where('session', '=', session)
    .orderBy('at')
    .orderBy('kind')
    .execute()
  return rows.map((row) => ({
    ...row,
    bytes: row.bytes === null ? null : Number(row.bytes),
    seconds: Number(row.seconds),
  }))
}

/** The last lines of a session's consoles, in the order in which they came. */
export function listLogs(db: Queries, session: string): Promise<SessionLogRow[]> {
  return db.selectFrom('session_logs').selectAll().where('session', '=', session).orderBy('at').execute()
}

/** How often a session has sent its console's lines, and when last. */
export async function logsSent(
  db: Queries,
  session: string,
): Promise<{ readonly times: number; readonly at: string | null }> {
  const rows = await db
    .selectFrom('session_logs')
    .select(['at', 'times'])
    .where('session', '=', session)
    .orderBy('at', 'desc')
    .execute()
  return { times: rows.reduce((sum, { times }) => sum + times, 0), at: rows[0]?.at ?? null }
}

/** Keeps the last lines of a console in place of those of before. */
export async function putLog(tx: Tx, row: Omit<SessionLogRow, 'times'>): Promise<void> {
  await tx
    .insertInto('session_logs')
    .values({ ...row, times: 1 })
    .onConflict((c) =>
      c.columns(['session', 'stage']).doUpdateSet((e) => ({
        at: e.ref('excluded.at'),
        text: e.ref('excluded.text'),
        times: e('session_logs.times', '+', 1),
      })),
    )
    .execute()
}

/** Of a node's sessions with lines of a console, all but the last `most` lose them. */
export async function trimLogs(tx: Tx, node: string, most: number): Promise<void> {
  const old = await tx
    .selectFrom('session_logs')
    .innerJoin('sessions', 'sessions.id', 'session_logs.session')
    .select('sessions.id')
    .distinct()
    .select('sessions.started_at')
    .where('sessions.node', '=', node)
    .orderBy('sessions.started_at', 'desc')
    .orderBy('sessions.id')
    .offset(most)
    .limit(100)
    .execute()
  if (old.length === 0) return
  await tx
    .deleteFrom('session_logs')
    .where(
      'session',
      'in',
      old.map(({ id }) => id),
    )
    .execute()
}

/** A session in a list. */
export interface ListedSession {
  readonly id: string
  readonly sequence: 'boot' | 'reinstall'
  readonly local: number
  readonly state: SessionState
  readonly stage: StageName
  readonly cause: string | null
  readonly source: string
  readonly started_at: string
  readonly ended_at: string | null
}

/** The sessions of a node, the latest first, from before the one named. */
export function listNodeSessions(
  db: Queries,
  { node, before, limit }: { node: string; before: string | undefined; limit: number },
): Promise<ListedSession[]> {
  let query = db
    .selectFrom('sessions')
    .select(['id', 'sequence', 'local', 'state', 'stage', 'cause', 'source', 'started_at', 'ended_at'])
    .where('node', '=', node)
  if (before !== undefined) {
    const at = db.selectFrom('sessions').select('started_at').where('id', '=', before)
    query = query.where((e) =>
      e.or([e('started_at', '<', at), e.and([e('started_at', '=', at), e('id', '<', before)])]),
    )
  }
  return query.orderBy('started_at', 'desc').orderBy('id', 'desc').limit(limit).execute()
}
