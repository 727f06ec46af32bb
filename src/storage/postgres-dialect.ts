import {
  type CompiledQuery,
  type DatabaseConnection,
  type Driver,
  PostgresDialect,
  type PostgresDialectConfig,
  PostgresDriver,
  type QueryResult,
  type TransactionSettings,
} from 'kysely'
import type { GuardedClient, GuardedPool } from './postgres-guard.ts'
import type { Answered, Part } from './postgres-round.ts'
import { preparedName } from './prepared.ts'

/**
 * PostgreSQL as Kysely sees it. What is ours: a transaction begins in the round trip of its first statement, where that is one that is
 * kept prepared, and one that asks nothing is none.
 */
export class OwnPostgresDialect extends PostgresDialect {
  readonly #pool: GuardedPool

  constructor(pool: GuardedPool) {
    super(configOf(pool))
    this.#pool = pool
  }

  override createDriver(): Driver {
    return new OwnDriver(this.#pool)
  }
}

/** It is all that Kysely uses of a pool. */
const configOf = (pool: GuardedPool): PostgresDialectConfig => ({
  pool: pool as unknown as PostgresDialectConfig['pool'],
})

class OwnDriver extends PostgresDriver {
  readonly #pool: GuardedPool
  /** Kysely keeps what it knows of a connection by the object that it is given. */
  readonly #connections = new WeakMap<GuardedClient, OwnConnection>()

  constructor(pool: GuardedPool) {
    super(configOf(pool))
    this.#pool = pool
  }

  override async acquireConnection(): Promise<DatabaseConnection> {
    const client = await this.#pool.connect()
    const connection = this.#connections.get(client) ?? new OwnConnection(client)
    this.#connections.set(client, connection)
    return connection
  }

  override async beginTransaction(
    connection: DatabaseConnection,
    settings: TransactionSettings,
  ): Promise<void> {
    if (settings.isolationLevel !== undefined || settings.accessMode !== undefined)
      return super.beginTransaction(connection, settings)
    own(connection).begin()
  }

  override async commitTransaction(connection: DatabaseConnection): Promise<void> {
    if (!own(connection).hasNotBegun()) await super.commitTransaction(connection)
  }

  override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    if (!own(connection).hasNotBegun()) await own(connection).rollback()
  }

  override async releaseConnection(connection: DatabaseConnection): Promise<void> {
    own(connection).release()
  }
}

/** All connections of the driver are its own. */
const own = (connection: DatabaseConnection): OwnConnection => connection as OwnConnection

const begin: Part = { text: 'begin', values: [] }
const commit = 'commit'

class OwnConnection implements DatabaseConnection {
  readonly #client: GuardedClient
  #begins = false
  /** The round that began the transaction: where it failed, nothing else is asked, since there may be no transaction for it to be in. */
  #begun: Promise<Answered> | undefined
  #discarded = false

  constructor(client: GuardedClient) {
    this.#client = client
  }

  /** Has the next statement begin a transaction. */
  begin(): void {
    this.#begins = true
  }

  /** Whether a transaction was to begin and no statement came; it is over then. */
  hasNotBegun(): boolean {
    const unasked = this.#begins
    this.#begins = false
    return unasked
  }

  async executeQuery<R>({ sql: text, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const part = partOf(text, parameters)
    if (this.hasNotBegun()) {
      this.#begun = this.#client.round(part === undefined ? [begin] : [begin, part])
      const answered = await this.#begun
      if (part !== undefined) return resultOf(answered)
    } else await this.#begun
    if (part !== undefined) return resultOf(await this.#client.round([part]))
    return resultOf(await (this.#client.query(text, parameters) as Promise<Given>))
  }

  // biome-ignore lint/correctness/useYield: nothing of ours reads by cursor
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('rows are not streamed from PostgreSQL')
  }

  /** Of one that cannot be told the transaction ends with it; what is thrown is why it was to be rolled back. */
  async rollback(): Promise<void> {
    this.#begun = undefined
    if (this.#client.isBroken()) return
    await this.#client.round([{ text: 'rollback', values: [] }]).catch(() => {
      this.#discarded = true
    })
  }

  release(): void {
    this.#client.release(this.#discarded)
  }
}

/** A statement as one of a round; undefined for one that pg is to send. */
function partOf(text: string, values: readonly unknown[]): Part | undefined {
  const name = preparedName(text)
  if (name !== undefined) return { text, values, name }
  return text === commit ? { text, values } : undefined
}

/** What is used of pg's result. */
interface Given {
  readonly command: string
  readonly rowCount: number | null
  readonly rows: unknown[] | undefined
}

const changes: ReadonlySet<string> = new Set(['INSERT', 'UPDATE', 'DELETE', 'MERGE'])

function resultOf<R>({ command, rowCount, rows }: Given): QueryResult<R> {
  // By it Kysely sees that a transaction was rolled back where it was to be committed.
  if (command === 'ROLLBACK' || command === 'COMMIT') return { rows: [{ command }] as R[] }
  const result = { rows: (rows ?? []) as R[] }
  return changes.has(command) ? { ...result, numAffectedRows: BigInt(rowCount ?? 0) } : result
}
