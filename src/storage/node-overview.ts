import { sql } from 'kysely'
import type { Pace } from '../domain/pace.ts'
import type { Queries } from './database.ts'
import type { NodeRow, SessionRow } from './tables.ts'

/** What a fleet's overview has of one node. */
export type OverviewRow = Pick<
  NodeRow,
  'name' | 'state' | 'failure_cause' | 'profile' | 'labels' | 'reinstall' | 'updated_at' | 'looping_since'
> & {
  readonly stage: SessionRow['stage'] | null
  readonly sequence: SessionRow['sequence'] | null
  readonly session_state: SessionRow['state'] | null
  readonly started_at: string | null
  readonly last_seen_at: string | null
  readonly ended_at: string | null
  readonly pace: Pace | null
}

/** Every node with its latest session, by name, in one query; with `names` those of them that are there. */
export function listOverview(
  db: Queries,
  { limit, names }: { readonly limit: number; readonly names?: readonly string[] | undefined },
): Promise<OverviewRow[]> {
  const query = db
    .selectFrom('nodes')
    .leftJoin('sessions', 'sessions.id', 'nodes.session')
    .leftJoin('session_paces', (join) =>
      join
        .onRef('session_paces.session', '=', 'sessions.id')
        .onRef('session_paces.stage', '=', 'sessions.stage'),
    )
    .select(['session_paces.pace', 'nodes.looping_since'])
    .select(['nodes.name', 'nodes.state', 'nodes.failure_cause', 'nodes.profile', 'nodes.labels'])
    .select(['nodes.reinstall', 'nodes.updated_at', 'sessions.stage', 'sessions.sequence'])
    .select([
      'sessions.state as session_state',
      'sessions.started_at',
      'sessions.last_seen_at',
      'sessions.ended_at',
    ])
    .orderBy('nodes.name')
    .limit(limit)
  return (names === undefined ? query : query.where('nodes.name', 'in', names)).execute()
}

/** How many nodes booted which image as their full system last. */
export interface ImageUseRow {
  readonly image: string
  readonly nodes: number
  readonly ready: number
}

/** Counts them in the database: what a session has pinned is some kilobytes of JSON, one for each node. */
export async function countImageUses(db: Queries): Promise<ImageUseRow[]> {
  const isPostgres = db.getExecutor().adapter.supportsMultipleConnections === true
  const image = isPostgres
    ? sql<string | null>`sessions.pinned::jsonb #>> '{images,stage3,ref}'`
    : sql<string | null>`json_extract(sessions.pinned, '$.images.stage3.ref')`
  const rows = await db
    .selectFrom('nodes')
    .innerJoin('sessions', 'sessions.id', 'nodes.session')
    .select([
      image.as('image'),
      sql<number>`count(*)`.as('nodes'),
      sql<number>`sum(case when sessions.state = 'ready' then 1 else 0 end)`.as('ready'),
    ])
    .groupBy(image)
    .orderBy(image)
    .execute()
  return rows.flatMap(({ image, nodes, ready }) =>
    image === null ? [] : [{ image, nodes: Number(nodes), ready: Number(ready) }],
  )
}
