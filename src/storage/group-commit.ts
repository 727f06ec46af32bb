import type { Kysely } from 'kysely'
import type { OwnConnection } from './sqlite.ts'

/**
 * Group commit. A commit that outlives a power cut waits for the disk, and SQLite has one writer: with a commit each, the disk
 * decides how many boots a second there are. So the transactions that wait are run one after another as savepoints of one, with
 * one commit for all of them; what each has answered goes out behind that commit and not before, so "durable before
 * acknowledged" holds as it did.
 *
 * - One that throws is rolled back to its savepoint, alone. It is told behind the commit too: what it saw of those before it was
 *   not durable until then, and a refusal must not rest on what a failed commit undoes.
 * - A commit that fails, or a statement at which SQLite rolls everything back (disk full, I/O error), fails all that had begun.
 * - Reads outside of transactions share the connection, and wait for the batch: they never see what is not committed.
 * - A batch ends after so many or so long; then the event loop has a turn, so that answers leave and requests come.
 */
export interface GroupCommit<Db> {
  /** Runs `work` in a transaction of its own; resolves when it is durable. */
  transaction<T>(work: (tx: Db) => Promise<T>): Promise<T>
  /** Resolves when nothing runs or waits. */
  idle(): Promise<void>
}

/**
 * Bounds of one batch. Turns are of the event loop: a request on a new connection takes some four to come. A disk that takes its time
 * to sync gets batches of four times as long, so that it is not the disk that decides, up to a bound: the event loop stands
 * still meanwhile.
 */
const most = { works: 256, turns: 4, milliseconds: 8, evenOnSlowDisks: 40 }

interface Waiting<Db> {
  readonly work: (tx: Db) => Promise<unknown>
  readonly settle: (outcome: Outcome) => void
}

type Outcome = { readonly value: unknown } | { readonly error: unknown }

/** Opens it over the one connection of a database. */
export function openGroupCommit<Tables, Db extends Kysely<Tables>>(
  db: Kysely<Tables>,
  connection: OwnConnection,
  readOnly: boolean,
): GroupCommit<Db> {
  const waiting: Waiting<Db>[] = []
  let running: Promise<void> | undefined
  let lastCommit = 0

  function transaction<T>(work: (tx: Db) => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const settle = (outcome: Outcome): void =>
        'error' in outcome ? reject(outcome.error) : resolve(outcome.value as T) // it is what `work` gave
      waiting.push({ work, settle })
      running ??= runAll()
    })
  }

  async function runAll(): Promise<void> {
    do {
      await gather()
      await runBatch()
    } while (waiting.length > 0)
    // At once: who comes between the look and a promise that has settled would wait for the next who comes.
    running = undefined
  }

  /**
   * A commit costs more than a redemption, however many share it. So who comes within the next turns of the event loop is of the same
   * batch: where there is nothing else to do they are over at once. SQLite answers at once too, so somebody who reads and reads ends no
   * turn: whoever waits to write comes after so many of its statements.
   */
  function gather(): Promise<void> {
    return new Promise((resolve) => {
      connection.after(100, resolve)
      const pass = (turns: number): unknown => (turns === 0 ? resolve() : setImmediate(pass, turns - 1))
      pass(most.turns)
    })
  }

  async function runBatch(): Promise<void> {
    const ran: { settle: (outcome: Outcome) => void; outcome: Outcome }[] = []
    try {
      await db.connection().execute((one) => runOn(one as Kysely<Tables>, ran))
    } catch (error) {
      // Nobody has begun: the database is locked or gone, and they have waited for it together.
      if (ran.length === 0)
        ran.push(...waiting.splice(0).map(({ settle }) => ({ settle, outcome: { error } })))
      for (const { settle } of ran) settle({ error })
      return
    }
    for (const { settle, outcome } of ran) settle(outcome)
  }

  async function runOn(
    one: Kysely<Tables>,
    ran: { settle: (outcome: Outcome) => void; outcome: Outcome }[],
  ): Promise<void> {
    const { sqlite } = connection
    // The write lock at once: a batch that began by reading could not go on to write behind another process.
    connection.run(readOnly ? 'begin' : 'begin immediate')
    connection.batch = true
    try {
      const until =
        performance.now() + Math.min(most.evenOnSlowDisks, Math.max(most.milliseconds, 4 * lastCommit))
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const { work, settle } = next
        const outcome = await outcomeOf(one.transaction().execute((tx) => inTurn(tx as unknown as Db, work)))
        ran.push({ settle, outcome })
        if (!sqlite.inTransaction)
          throw 'error' in outcome ? outcome.error : new Error('the transaction is over')
        if (ran.length >= most.works || performance.now() >= until) break
      }
      const commits = performance.now()
      connection.run('commit')
      lastCommit = performance.now() - commits
    } catch (error) {
      if (sqlite.inTransaction) connection.run('rollback')
      throw error
    } finally {
      connection.batch = false
    }
  }

  async function inTurn<T>(tx: Db, work: (tx: Db) => Promise<T>): Promise<T> {
    connection.turn = tx
    try {
      return await work(tx)
    } finally {
      connection.turn = undefined
    }
  }

  return { transaction, idle: async () => running }
}

function outcomeOf(running: Promise<unknown>): Promise<Outcome> {
  return running.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )
}
