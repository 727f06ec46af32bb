import { type Answered, type Known, type Part, Round } from './postgres-round.ts'
import { isStale } from './prepared.ts'

/** What is used of a connection of pg's pool. */
export interface PoolClient {
  /** A promise for a result; anything else for what is no text. */
  query(...given: readonly unknown[]): unknown
  /** How a type is read, by its number. */
  getTypeParser(type: number, format: 'text'): (text: string) => unknown
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

/** A connection that says whether it is good for anything. */
export interface GuardedClient extends Pick<PoolClient, 'query' | 'release'> {
  /** Runs statements in one round trip; gives what the last one gave, or the fault of the first that has one. */
  round(parts: readonly Part[]): Promise<Answered>
  /** Whether it is thrown away when it is released. */
  isBroken(): boolean
}

/** A pool of them. */
export interface GuardedPool extends Pick<Pool, 'end'> {
  connect(): Promise<GuardedClient>
}

/** What a connection knows, and of which generation it is. */
interface Prepared extends Known {
  generation: number
}

/** Whether a statement was refused because one before it lost their transaction: the fault to tell is that one's. */
function isInLost(error: unknown): boolean {
  return (error as { readonly code?: unknown } | null)?.code === '25P02'
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
): GuardedPool {
  const nothing = (): void => {}
  pool.on('error', nothing) // of one that is idle: it is replaced
  pool.on('connect', (client) => client.on('error', nothing)) // of one that is in use: its next query tells
  const guarded = new WeakMap<PoolClient, GuardedClient>()
  let generation = 0 // of what is prepared: where it became stale on one connection, so it did on the others

  /** A fault in a transaction loses it, and it takes no other statement: who began it does so again. */
  async function runRound(client: PoolClient, known: Prepared, parts: readonly Part[]): Promise<Answered> {
    const of = generation
    const run = (): Promise<Answered> =>
      new Promise((resolve, reject) => {
        if (known.generation !== generation) known.prepared.clear()
        known.generation = generation
        client.query(
          new Round(parts, known, (error, answered) => (answered ? resolve(answered) : reject(error))),
        )
      })
    try {
      return await run()
    } catch (error) {
      if (!isStale(error)) throw error
      if (generation === of) generation += 1
      return await run().catch((again: unknown) => Promise.reject(isInLost(again) ? error : again))
    }
  }

  function guard(client: PoolClient): GuardedClient {
    const known: Prepared = {
      generation,
      prepared: new Map(),
      parserOf: (type) => client.getTypeParser(type, 'text'),
    }
    let broken = false
    const failed = (error: unknown): never => {
      const explained = explain(error)
      if (isAway(explained)) broken = true
      throw explained
    }
    return {
      query(...given) {
        const answer = client.query(...given)
        if (typeof (answer as Partial<Promise<unknown>> | undefined)?.then !== 'function') return answer // a cursor
        return (answer as Promise<unknown>).catch(failed)
      },
      round: (parts) => runRound(client, known, parts).catch(failed),
      isBroken: () => broken,
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
