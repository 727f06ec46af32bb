import type { SequenceName } from '../domain/profile.ts'
import type { StageName } from '../domain/stage.ts'
import { timedStages } from '../domain/usual-times.ts'
import { inChunks } from './chunks.ts'
import type { Queries, Tx } from './database.ts'
import type { SessionPaceRow } from './pace-tables.ts'
import { pinnedProfile } from './usual-times.ts'

/** A stage that is open, as far as its pace needs it. */
export interface OpenStageRow {
  readonly session: string
  readonly node: string
  readonly profile: string
  readonly sequence: SequenceName
  readonly stage: StageName
  readonly openedAt: string
  readonly lastSeenAt: string
  readonly bytes: number
  readonly mark: SessionPaceRow | undefined
}

/** The stages that are open since before `openedBefore`, the oldest first, with what is on record of their pace. */
export async function listOpenStages(
  db: Queries,
  openedBefore: Date,
  limit: number,
): Promise<OpenStageRow[]> {
  const rows = await db
    .selectFrom('sessions')
    .innerJoin('nodes', 'nodes.id', 'sessions.node')
    .innerJoin('session_stages as open', (join) =>
      join.onRef('open.session', '=', 'sessions.id').onRef('open.stage', '=', 'sessions.stage'),
    )
    .leftJoin('session_paces as pace', (join) =>
      join.onRef('pace.session', '=', 'sessions.id').onRef('pace.stage', '=', 'sessions.stage'),
    )
    .select(['sessions.id as session', 'nodes.name as node', 'sessions.sequence', 'sessions.stage'])
    .select(['sessions.last_seen_at as lastSeenAt', 'open.opened_at as openedAt', 'open.bytes'])
    .select(['pace.pace', 'pace.code', 'pace.slow_at', 'pace.stuck_at'])
    .select(pinnedProfile(db).as('profile'))
    .where('sessions.ended_at', 'is', null)
    .where('sessions.stage', 'in', [...timedStages])
    .where('open.opened_at', '<', openedBefore.toISOString())
    .orderBy('open.opened_at')
    .limit(limit)
    .execute()
  return rows.map(({ pace, code, slow_at, stuck_at, ...row }) => ({
    ...row,
    bytes: Number(row.bytes),
    mark:
      pace === null || code === null
        ? undefined
        : {
            session: row.session,
            stage: row.stage as SessionPaceRow['stage'],
            pace,
            code,
            slow_at,
            stuck_at,
          },
  }))
}

/** What is on record of a stage's pace. */
export function findSessionPace(
  db: Queries,
  session: string,
  stage: SessionPaceRow['stage'],
): Promise<SessionPaceRow | undefined> {
  return db
    .selectFrom('session_paces')
    .selectAll()
    .where('session', '=', session)
    .where('stage', '=', stage)
    .executeTakeFirst()
}

/** Puts a stage's pace on record, in the place of what was. */
export async function putSessionPace(tx: Tx, row: SessionPaceRow): Promise<void> {
  const { session: _session, stage: _stage, ...changes } = row
  await tx
    .insertInto('session_paces')
    .values(row)
    .onConflict((c) => c.columns(['session', 'stage']).doUpdateSet(changes))
    .execute()
}

/** What is on record of the stages that these sessions are in. */
export async function findCurrentPaces(
  db: Queries,
  sessions: readonly string[],
): Promise<ReadonlyMap<string, SessionPaceRow>> {
  const found = new Map<string, SessionPaceRow>()
  for (const some of inChunks(sessions, 1)) {
    const rows = await currentPaces(db).where('sessions.id', 'in', some).execute()
    for (const row of rows) found.set(row.session, row)
  }
  return found
}

/** How many boots under way are slow, and how many stuck. */
export async function countPaces(db: Queries): Promise<{ readonly slow: number; readonly stuck: number }> {
  const rows = await currentPaces(db).execute()
  const of = (pace: string): number => rows.filter((row) => row.pace === pace).length
  return { slow: of('slow'), stuck: of('stuck') }
}

/** Nodes that loop. */
export async function countLooping(db: Queries): Promise<number> {
  const { count } = await db
    .selectFrom('nodes')
    .select((e) => e.fn.countAll().as('count'))
    .where('looping_since', 'is not', null)
    .executeTakeFirstOrThrow()
  return Number(count)
}

function currentPaces(db: Queries) {
  return db
    .selectFrom('session_paces')
    .innerJoin('sessions', (join) =>
      join
        .onRef('sessions.id', '=', 'session_paces.session')
        .onRef('sessions.stage', '=', 'session_paces.stage'),
    )
    .selectAll('session_paces')
    .where('sessions.ended_at', 'is', null)
}
