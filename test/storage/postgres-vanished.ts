import { spawnSync } from 'node:child_process'
import { sql } from 'kysely'
import pg from 'pg'
import t from 'tap'
import { openStorage, type Tx } from '../../src/storage/database.ts'
import { startCluster } from '../helpers/postgres-cluster.ts'
import { until } from '../helpers/until.ts'

/**
 * A server of ours vanishes without a word and does not come back, in the middle of transactions: PostgreSQL has to find out by itself.
 * Run by `postgres-vanished.test.ts` in a network namespace of its own.
 */

function nft(...words: string[]): void {
  const done = spawnSync('nft', words, { encoding: 'utf8' })
  if (done.status !== 0) throw new Error(`nft failed: ${done.stderr}`)
}

t.test('transactions of a server that vanished for good are over soon', async (t) => {
  const cluster = await startCluster(t)
  const storage = await openStorage(await cluster.create('locks'))
  t.teardown(() => storage.close())
  const transactions = async (): Promise<string[]> => {
    const all = await cluster.query(
      "select query from pg_stat_activity where datname = 'locks' and xact_start is not null order by query",
    )
    return all.map(({ query }) => String(query))
  }
  const ports: number[] = []
  const waits = Promise.withResolvers<void>()
  const begin = (goOn: (tx: Tx) => Promise<unknown>): Promise<unknown> => {
    const begun = Promise.withResolvers<void>()
    const over = storage.transaction(async (tx) => {
      const { rows } = await sql<{ port: number }>`select inet_client_port() as port`.execute(tx)
      ports.push(...rows.map(({ port }) => port))
      begun.resolve()
      await goOn(tx)
    })
    over.catch(() => {})
    return begun.promise
  }
  await begin(() => waits.promise)
  const holder = new pg.Client({ connectionString: cluster.url('locks') })
  await holder.connect()
  t.teardown(() => holder.end())
  await holder.query('select pg_advisory_lock(1)')
  await begin((tx) => sql`select pg_advisory_xact_lock(1)`.execute(tx))
  await until(t, transactions, ['select inet_client_port() as port', 'select pg_advisory_xact_lock(1)'])

  nft('add table inet vanished')
  nft('add chain inet vanished lost { type filter hook input priority 0; }')
  for (const port of ports)
    for (const side of ['dport', 'sport']) nft(`add rule inet vanished lost tcp ${side} ${port} drop`)
  // Its answer comes when nobody hears it any more.
  await holder.query('select pg_advisory_unlock(1)')
  const began = performance.now()
  await until(t, transactions, [])
  // One was to be asked, the other had an answer on its way: TCP would repeat that for a quarter of an hour.
  const seconds = (performance.now() - began) / 1000
  t.comment(`over after ${seconds.toFixed(1)} s`)
  t.ok(seconds < 60, `${seconds} s`)
  nft('delete table inet vanished')
  waits.resolve()
})
