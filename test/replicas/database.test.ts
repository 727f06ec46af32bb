import t from 'tap'
import { openStorage, type Storage } from '../../src/storage/database.ts'
import { appendEvent } from '../../src/storage/events.ts'
import { appliedMigrations, knownMigrations } from '../../src/storage/migrate.ts'
import { guardPool, type Pool, type PoolClient } from '../../src/storage/postgres-guard.ts'
import { postgresAbsent } from '../helpers/postgres.ts'
import { startCluster } from '../helpers/postgres-cluster.ts'
import { until } from '../helpers/until.ts'

const skip = process.env.PAWL_REQUIRE === 'all' ? false : (postgresAbsent() ?? false)
const away = { code: 'storage-unavailable' }

const write = (storage: Storage): Promise<void> =>
  storage.transaction((tx) =>
    appendEvent(tx, {
      ...{ kind: 'backup-made', at: new Date('2026-11-21T06:00:00Z'), detail: {} },
      ...{ node: null, session: null, source: null, actor: 'operator:test' },
    }),
  )

t.test(
  'a connection that is broken, or stuck behind an answer that never came, is thrown away',
  async (t) => {
    const released: unknown[] = []
    const listeners: string[] = []
    const client: PoolClient = {
      query: async (text) => {
        if (text !== 'good') throw new Error(String(text))
      },
      getTypeParser: () => String,
      release: (broken) => released.push(broken),
      on: (event) => listeners.push(`client ${event}`),
    }
    let made: ((client: PoolClient) => void) | undefined
    const pool: Pool = {
      connect: async () => client,
      end: async () => {},
      on: (event: string, listener: unknown) => {
        listeners.push(`pool ${event}`)
        if (event === 'connect') made = listener as typeof made
      },
    }
    const guarded = guardPool(
      pool,
      (error) => error,
      (error) => (error as Error).message === 'Query read timeout',
    )
    made?.(client)
    t.same(listeners, ['pool error', 'pool connect', 'client error'], 'no error of theirs ends the process')
    const first = await guarded.connect()
    await first.query('good')
    await t.rejects(first.query('of the query alone') as Promise<unknown>)
    first.release()
    const second = await guarded.connect()
    t.equal(second, first, 'Kysely knows it again')
    await t.rejects(second.query('Query read timeout') as Promise<unknown>)
    second.release()
    t.same(released, [false, true])
  },
)

t.test(
  'PostgreSQL restarts: what it interrupted says so, nothing crashes, and all goes on',
  { skip },
  async (t) => {
    const cluster = await startCluster(t)
    const storage = await openStorage(await cluster.create('restarts'))
    t.teardown(() => storage.close())
    for (const mode of ['immediate', 'fast'] as const) {
      await write(storage)
      // The connection breaks while a transaction holds it and asks nothing.
      const held = storage.transaction(async (tx) => {
        await tx.selectFrom('nodes').selectAll().execute()
        await cluster.stop(mode)
        await tx.selectFrom('nodes').selectAll().execute()
      })
      await t.rejects(held, away, `${mode}: a transaction`)
      await t.rejects(storage.db.selectFrom('nodes').selectAll().execute(), away, 'a read outside of one')
      await t.rejects(write(storage), { ...away, message: /does not answer \(ECONNREFUSED\)/ }, 'a new one')
      await cluster.start()
      await write(storage)
    }
    await cluster.query("alter system set default_transaction_read_only = 'on'")
    await cluster.query('select pg_reload_conf()')
    // It is told to read them, and does so a moment later.
    const readOnly = (): Promise<unknown> => cluster.query('show default_transaction_read_only')
    await until(t, readOnly, [{ default_transaction_read_only: 'on' }])
    await t.rejects(
      write(storage),
      { ...away, message: /does not answer \(it only takes reads/, cause: { code: '25006' } },
      'a primary that was closed to writes is no database to go on with',
    )
    await t.rejects(
      write(storage),
      { ...away, message: /only takes reads \(default_transaction_read_only\)$/ },
      'that connection is thrown away, and no new one made',
    )
    await cluster.query('alter system reset default_transaction_read_only')
    await cluster.query('select pg_reload_conf()')
    await until(t, readOnly, [{ default_transaction_read_only: 'off' }])
    await write(storage)
    const [row] = await storage.db
      .selectFrom('events')
      .select((e) => e.fn.countAll<number | string>().as('n'))
      .execute()
    t.equal(Number(row?.n), 5, 'each acknowledged event is there once')
  },
)

t.test('of replicas that start at once on an empty database each finds its schema', { skip }, async (t) => {
  const cluster = await startCluster(t)
  const url = await cluster.create('empty')
  const opened = await Promise.allSettled(Array.from({ length: 5 }, () => openStorage(url)))
  const storages = opened.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  t.teardown(() => Promise.all(storages.map((storage) => storage.close())))
  t.same(
    opened.flatMap((one) => (one.status === 'rejected' ? [String(one.reason.cause ?? one.reason)] : [])),
    [],
  )
  const [first] = storages
  t.same(await appliedMigrations(first?.db as never), knownMigrations, 'once each')
})
