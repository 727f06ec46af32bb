import { type RawBuilder, sql } from 'kysely'
import type { SequenceName } from '../domain/profile.ts'
import { maxSamples, type UsualTime } from '../domain/usual-times.ts'
import { isPostgres } from './commit-order.ts'
import type { Queries, Tx } from './database.ts'
import type { BootTimesRow, UsualTimeRow } from './pace-tables.ts'
import type { SessionStageRow } from './tables.ts'

/** A profile's sequence: what has usual times of its own. */
export interface BootKind {
  readonly profile: string
  readonly sequence: SequenceName
}

/** The profile that a session has pinned, read by the database: all that is pinned are kilobytes. */
export function pinnedProfile(db: Queries): RawBuilder<string> {
  return isPostgres(db)
    ? sql`sessions.pinned::jsonb ->> 'profile'`
    : sql`json_extract(sessions.pinned, '$.profile')`
}

/** Up to which event boots were looked at; undefined where none was yet. */
export async function findBootsRead(db: Queries): Promise<number | undefined> {
  const row = await db.selectFrom('boot_times_read').select('event').executeTakeFirst()
  return row === undefined ? undefined : Number(row.event)
}

/** Takes down up to which event boots were looked at. */
export async function putBootsRead(tx: Tx, event: number): Promise<void> {
  await tx
    .insertInto('boot_times_read')
    .values({ id: 1, event })
    .onConflict((c) => c.column('id').doUpdateSet({ event }))
    .execute()
}

/** The event behind which the last `count` successes are; 0 where there are not as many. */
export async function findLastSuccesses(db: Queries, count: number): Promise<number> {
  const row = await db
    .selectFrom('events')
    .select('id')
    .where('kind', '=', 'session-ready')
    .orderBy('id', 'desc')
    .offset(count)
    .limit(1)
    .executeTakeFirst()
  return Number(row?.id ?? 0)
}

/** A session that ended well, with its stages in order. */
export interface EndedBoot extends BootKind {
  readonly session: string
  readonly node: string
  readonly labels: string
  readonly stages: readonly Pick<SessionStageRow, 'stage' | 'opened_at'>[]
}

/** What boots can be learned from of these sessions: those that did not end on a local disk. */
export async function listEndedBoots(db: Queries, sessions: readonly string[]): Promise<EndedBoot[]> {
  if (sessions.length === 0) return []
  const rows = await db
    .selectFrom('sessions')
    .innerJoin('nodes', 'nodes.id', 'sessions.node')
    .select(['sessions.id as session', 'sessions.sequence', 'sessions.node', 'nodes.labels'])
    .select(pinnedProfile(db).as('profile'))
    .where('sessions.id', 'in', sessions)
    .where('sessions.state', '=', 'ready')
    .where('sessions.local', '=', 0)
    .execute()
  const stages = await db
    .selectFrom('session_stages')
    .select(['session', 'stage', 'opened_at'])
    .where('session', 'in', sessions)
    .orderBy('opened_at')
    .execute()
  const of = Map.groupBy(stages, ({ session }) => session)
  return rows.map((row) => ({ ...row, stages: of.get(row.session) ?? [] }))
}

/** Adds boots; one that is there stays as it is. */
export async function insertBootTimes(tx: Tx, rows: readonly BootTimesRow[]): Promise<void> {
  if (rows.length === 0) return
  await tx
    .insertInto('boot_times')
    .values(rows)
    .onConflict((c) => c.column('session').doNothing())
    .execute()
}

/** The last boots of a kind, the newest first; older ones are removed. */
export async function lastBootTimes(tx: Tx, { profile, sequence }: BootKind): Promise<BootTimesRow[]> {
  const rows = await tx
    .selectFrom('boot_times')
    .selectAll()
    .where('profile', '=', profile)
    .where('sequence', '=', sequence)
    .orderBy('event', 'desc')
    .limit(maxSamples)
    .execute()
  const oldest = rows.at(-1)
  if (oldest !== undefined && rows.length === maxSamples)
    await tx
      .deleteFrom('boot_times')
      .where('profile', '=', profile)
      .where('sequence', '=', sequence)
      .where('event', '<', oldest.event)
      .execute()
  return rows
}

/** Puts what was learned in the place of what was. */
export async function putUsualTimes(tx: Tx, kind: BootKind, rows: readonly UsualTimeRow[]): Promise<void> {
  await tx
    .deleteFrom('usual_times')
    .where('profile', '=', kind.profile)
    .where('sequence', '=', kind.sequence)
    .execute()
  if (rows.length > 0) await tx.insertInto('usual_times').values(rows).execute()
}

/** Forgets what was learned of profiles that are gone. */
export async function forgetUsualTimes(tx: Tx): Promise<void> {
  for (const table of ['usual_times', 'boot_times'] as const)
    await tx.deleteFrom(table).where('profile', 'not in', tx.selectFrom('profiles').select('name')).execute()
}

/** What was learned of every profile. */
export function listUsualTimes(db: Queries): Promise<UsualTimeRow[]> {
  return db.selectFrom('usual_times').selectAll().execute()
}

/** As the domain has it. */
export function usualTimeOf(row: UsualTimeRow): UsualTime {
  return {
    medianSeconds: Number(row.median_seconds),
    p99Seconds: Number(row.p99_seconds),
    boots: Number(row.boots),
  }
}
