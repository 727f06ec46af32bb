import type { Queries, Tx } from './database.ts'

/** A session that ended long ago. */
export interface OldSession {
  readonly id: string
  readonly ended_at: string
  /** Whether it stays: its node's last boot, or the last of it that ended so. */
  readonly stays: boolean
  /** Whether there are spans or lines of a console of it. */
  readonly told: boolean
}

/** Sessions that ended before `cutoff`, in the order of their ends, behind the one given. */
export async function listOldSessions(
  db: Queries,
  { cutoff, after, limit }: { cutoff: string; after: OldSession | undefined; limit: number },
): Promise<OldSession[]> {
  let query = db
    .selectFrom('sessions')
    .select(['sessions.id', 'sessions.ended_at'])
    .select((e) => [
      e
        .selectFrom('nodes')
        .select('nodes.id')
        .whereRef('nodes.id', '=', 'sessions.node')
        .whereRef('nodes.session', '=', 'sessions.id')
        .as('last'),
      e
        .selectFrom('session_spans')
        .select('session_spans.session')
        .whereRef('session_spans.session', '=', 'sessions.id')
        .limit(1)
        .as('span'),
      e
        .selectFrom('session_logs')
        .select('session_logs.session')
        .whereRef('session_logs.session', '=', 'sessions.id')
        .limit(1)
        .as('log'),
      e
        .selectFrom('sessions as later')
        .select('later.id')
        .whereRef('later.node', '=', 'sessions.node')
        .whereRef('later.state', '=', 'sessions.state')
        .whereRef('later.started_at', '>', 'sessions.started_at')
        .limit(1)
        .as('later'),
    ])
    .where('sessions.ended_at', '<', cutoff)
  if (after !== undefined)
    // The first says where to begin in the index; an "or" alone has both databases read it from its start each time.
    query = query
      .where('sessions.ended_at', '>=', after.ended_at)
      .where((e) =>
        e.or([
          e('sessions.ended_at', '>', after.ended_at),
          e.and([e('sessions.ended_at', '=', after.ended_at), e('sessions.id', '>', after.id)]),
        ]),
      )
  const rows = await query.orderBy('sessions.ended_at').orderBy('sessions.id').limit(limit).execute()
  return rows.map(({ id, ended_at, last, later, span, log }) => ({
    id,
    ended_at: ended_at ?? cutoff, // the filter has no null
    stays: last !== null || later === null,
    told: span !== null || log !== null,
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
