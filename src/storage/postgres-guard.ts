/** What is used of a connection of pg's pool. */
export interface PoolClient {
  /** A promise for a result; anything else for what is no text. */
  query(...given: readonly unknown[]): unknown
  release(broken?: boolean): void
  on(event: 'error', listener: () => void): unknown
}

/** What is used of pg's pool. */
export interface Pool {
  connect(): Promise<PoolClient>
  end(): Promise<void>
  on(event: 'error', listener: () => void): unknown
  on(event: 'connect', listener: (client: PoolClient) => void): unknown
}

/**
 * A pool that outlives its PostgreSQL. pg's own has two gaps: a connection that breaks while a transaction holds it, between
 * two queries, raises an error that nobody listens to and ends the process; and one whose query had no answer in time goes
 * back into the pool with the query still on it. Here every broken connection is thrown away, and every error is one
 * that says so: `explain` makes `storage-unavailable` of what is wrong with the database as a whole.
 */
export function guardPool(
  pool: Pool,
  explain: (error: unknown) => unknown,
  isAway: (explained: unknown) => boolean,
): Pick<Pool, 'end'> & { connect(): Promise<Pick<PoolClient, 'query' | 'release'>> } {
  const nothing = (): void => {}
  pool.on('error', nothing) // of one that is idle: it is replaced
  pool.on('connect', (client) => client.on('error', nothing)) // of one that is in use: its next query tells
  const guarded = new WeakMap<PoolClient, Pick<PoolClient, 'query' | 'release'>>()

  function guard(client: PoolClient): Pick<PoolClient, 'query' | 'release'> {
    let broken = false
    return {
      query(...given) {
        const answer = client.query(...given)
        if (typeof (answer as Partial<Promise<unknown>> | undefined)?.then !== 'function') return answer // a cursor
        return (answer as Promise<unknown>).catch((error: unknown) => {
          const explained = explain(error)
          if (isAway(explained)) broken = true
          throw explained
        })
      },
      release: (discard) => client.release(discard === true || broken),
    }
  }

  return {
    async connect() {
      const client = await pool.connect().catch((error: unknown) => {
        throw explain(error)
      })
      // Kysely keeps what it knows of a connection by the object that it is given.
      const known = guarded.get(client) ?? guard(client)
      guarded.set(client, known)
      return known
    },
    end: () => pool.end(),
  }
}
