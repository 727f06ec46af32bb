import { PawlError } from '../errors.ts'

/** What of pg's Client is used here. */
export interface SessionClient {
  connect(): Promise<unknown>
  query(text: string): Promise<{ readonly rows: readonly Record<string, unknown>[] }>
  end(): Promise<void>
}

/** The name of the second connection: it is open for a moment, and uses nothing. */
export const lookingName = 'pawl_look'

/**
 * A PostgreSQL whose client has vanished ends its session, and frees what it had locked, after some 11 s; by itself after two hours. The
 * keep-alives are for a session that waits to be asked. While an answer is on its way Linux sends none: it repeats the answer, for a
 * quarter of an hour, and most transactions of a host that loses its power are in that state.
 */
export const endOfVanished =
  'set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3; set tcp_user_timeout = 11000'

/**
 * A pooler that is idle gives each question the session it used last; one that is busy may not, so it is asked more than once. With one
 * other client each of two connections had a session of its own for three rounds in one of 300 tries, for eight in none of 4,500.
 */
const rounds = 8
/** A process of PostgreSQL, and of which of its servers: behind a proxy there may be several. */
const whose = "select pg_backend_pid() || ' ' || pg_postmaster_start_time() as session"

/**
 * Looks whether a connection has a session of PostgreSQL for itself. A pooler in transaction or statement mode (PgBouncer, RDS
 * Proxy) lends sessions for a moment: what LISTEN and the leader's lock leave in one is somebody else's then, without an error.
 * Two connections that are both open and share a session, or one that changes it, are behind such a pooler. Nothing is
 * set in the session: it may be another's. Throws `storage-unavailable`.
 */
export async function refuseLentSessions(
  own: Pick<SessionClient, 'query'>,
  open: () => SessionClient,
  name: string,
): Promise<void> {
  const second = open()
  try {
    await second.connect()
    const seen = { own: new Set<unknown>(), second: new Set<unknown>() }
    for (let round = 0; round < rounds; round += 1) {
      seen.own.add((await own.query(whose)).rows[0]?.session)
      seen.second.add((await second.query(whose)).rows[0]?.session)
    }
    const each = [...seen.own, ...seen.second]
    if (each.length === 2 && each[0] !== each[1]) return
  } finally {
    await second.end().catch(() => {}) // its answers are what counts
  }
  throw new PawlError(
    'storage-unavailable',
    `database ${name} is behind a pooler that lends its sessions out for one transaction`,
    {
      hint: 'LISTEN and the lock of the leader need a session of their own: set pool_mode = session for this database, or name PostgreSQL itself',
    },
  )
}
