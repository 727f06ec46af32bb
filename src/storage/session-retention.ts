import type { Queries, Tx } from './database.ts'

/** A session that ended long ago. */
export interface OldSession {
  readonly id: string
  readonly ended_at: string
  /** Whether it stays: its node's last boot, or the last of it that ended so. */
  readonly stays: boolean
}

/** Sessions that ended before `cutoff`, in the order of their ends, behind the one given. */
export async function listOldSessions(
  db: Queries,
  { cutoff, after, limit }: { cutoff: string; after: OldSession | undefined; limit: number },
): Promise<OldSession[]> {
  let query = db
    .selectFrom('sessions')
    .leftJoin('nodes', 'nodes.session', 'sessions.id')
    .select(['sessions.id', 'sessions.ended_at', 'nodes.id as last'])
    .select((e) =>
      e
        .selectFrom('sessions as later')
        .select('later.id')
        .whereRef('later.node', '=', 'sessions.node')
        .whereRef('later.state', '=', 'sessions.state')
        .whereRef('later.started_at', '>', 'sessions.started_at')
        .limit(1)
        .as('later'),
    )
    .where('sessions.ended_at', '<', cutoff)
  if (after !== undefined)
    query = query.where((e) =>
      e.or([
        e('sessions.ended_at', '>', after.ended_at),
        e.and([e('sessions.ended_at', '=', after.ended_at), e('sessions.id', '>', after.id)]),
      ]),
    )
  const rows = await query.orderBy('sessions.ended_at').orderBy('sessions.id').limit(limit).execute()
  return rows.map(({ id, ended_at, last, later }) => ({
    id,
    ended_at: ended_at ?? cutoff, // the filter has no null
    stays: last !== null || later === null,
  }))
}

/** Removes what is told of these sessions, and those of them that do not stay, with their stages and tokens. */
export async function removeOldSessions(tx: Tx, sessions: readonly OldSession[]): Promise<number> {
  const all = sessions.map(({ id }) => id)
  await tx.deleteFrom('session_spans').where('session', 'in', all).execute()
  await tx.deleteFrom('session_logs').where('session', 'in', all).execute()
  const gone = sessions.filter(({ stays }) => !stays).map(({ id }) => id)
  if (gone.length > 0) await tx.deleteFrom('sessions').where('id', 'in', gone).execute()
  return gone.length
}
