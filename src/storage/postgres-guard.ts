import { isStale, preparedName } from './prepared.ts'

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
 * that says so: `explain` makes `storage-unavailable` of what is wrong with the database as a whole. Texts that are to be
 * prepared are run by their name.
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
  let generation = 0 // of what is prepared: where it became stale on one connection, so it did on the others

  async function runPrepared(
    client: PoolClient,
    name: string,
    text: string,
    values: unknown,
  ): Promise<unknown> {
    const of = generation
    const run = (): unknown => client.query({ name: `${name}.${generation}`, text, values })
    try {
      return await run()
    } catch (error) {
      if (!isStale(error)) throw error
      if (generation === of) generation += 1
      // A transaction is lost with it, and takes no other statement: who began it does so again.
      return await (run() as Promise<unknown>).catch(() => Promise.reject(error))
    }
  }

  function guard(client: PoolClient): Pick<PoolClient, 'query' | 'release'> {
    let broken = false
    return {
      query(...given) {
        const [text, values] = given
        const name = typeof text === 'string' ? preparedName(text) : undefined
        const answer =
          name === undefined ? client.query(...given) : runPrepared(client, name, text as string, values)
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
