import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import pg from 'pg'
import t from 'tap'
import { openRefusalLog } from '../../src/boot/refusal-log.ts'
import { shareTransfers } from '../../src/boot/share-transfers.ts'
import { openTransfers } from '../../src/boot/transfers.ts'
import { openStorage } from '../../src/storage/database.ts'
import { openEventWake } from '../../src/storage/event-wake.ts'
import { listEvents } from '../../src/storage/events.ts'
import { postgresAbsent } from '../helpers/postgres.ts'
import { startCluster } from '../helpers/postgres-cluster.ts'
import { until } from '../helpers/until.ts'

const skip = process.env.PAWL_REQUIRE === 'all' ? false : (postgresAbsent() ?? false)
const now = new Date('2026-11-21T06:00:00Z')

t.test(
  'what ends at one server is cut at the others, also behind a restart of PostgreSQL',
  { skip },
  async (t) => {
    const cluster = await startCluster(t)
    const url = await cluster.create('news')
    const [one, two] = [await openStorage(url), await openStorage(url)]
    t.teardown(() => Promise.all([one.close(), two.close()]))
    const here = shareTransfers(openTransfers(), one, (error) => t.fail(String(error)))
    const there = shareTransfers(openTransfers(), two, () => {})
    const begin = (session: string): { cut: Promise<void>; over: () => void } => {
      let over = (): void => {}
      const cut = new Promise<void>((resolve) => {
        over = there.begin(session, resolve)
      })
      return { cut, over: () => over() }
    }
    let last = begin('session-0')
    // Whoever begins to listen looks for what it may have missed: that session is not there, so its transfer ends.
    await last.cut
    last.over()
    t.pass('what ended while nobody heard is found')
    last = begin('session-1')
    here.cut('session-1')
    await last.cut
    last.over()
    t.same(there.sessions(), [])
    t.pass('told by NOTIFY')
    const lost = begin('session-2')
    await cluster.restart('immediate')
    await lost.cut
    t.pass('and looked for when the connection is back')
  },
)

t.test(
  'a connection that listens and is gone without a word is found by asking, and made again',
  { skip },
  async (t) => {
    const cluster = await startCluster(t)
    const url = new URL(await cluster.create('silent'))
    const sockets = new Set<Socket>()
    // Between the two, as a firewall is that has forgotten the connection: no byte passes, and nobody is told.
    const proxy = createServer((near) => {
      const far = connect(cluster.port, '127.0.0.1')
      for (const socket of [near, far]) sockets.add(socket.on('error', () => {}))
      near.pipe(far).pipe(near)
    }).listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    const fallSilent = (): void => {
      for (const socket of sockets) socket.unpipe().pause()
      sockets.clear()
    }
    const direct = new pg.Client({ connectionString: String(url) })
    await direct.connect()
    url.port = String((proxy.address() as AddressInfo).port)
    const opened: pg.Client[] = []
    const wake = openEventWake({
      connection: () => {
        const client = new pg.Client({ connectionString: String(url) })
        opened.push(client)
        return client
      },
      notify: async () => undefined,
      ask: { every: 20, answered: 5000 }, // a slow database is none that is gone
    })
    t.teardown(async () => {
      await wake.close()
      await direct.end()
      for (const socket of sockets) socket.destroy()
      proxy.close()
    })
    const words: (readonly string[] | undefined)[] = []
    let heard = (): void => {}
    const next = (): Promise<void> => new Promise((resolve) => (heard = resolve))
    let one = next()
    wake.hear('session-ended', (told) => {
      words.push(told)
      heard()
    })
    await one
    one = next()
    fallSilent()
    await one
    t.same(words, [undefined, undefined], 'whoever hears is told to look for himself, twice')
    t.equal(opened.length, 2, 'on a new connection')
    one = next()
    const text = JSON.stringify({ from: 'other', topic: 'session-ended', words: ['session-1'] })
    await direct.query('select pg_notify($1, $2)', ['pawl_news', text])
    await one
    t.same(words.at(-1), ['session-1'], 'which hears again')
  },
)

t.test('refusals wait while PostgreSQL is away, and are on record when it is back', { skip }, async (t) => {
  const cluster = await startCluster(t)
  const storage = await openStorage(await cluster.create('refusals'))
  t.teardown(() => storage.close())
  const errors: unknown[] = []
  const refusals = openRefusalLog({
    storage,
    clock: () => now,
    hasRoom: async () => true,
    onError: (error) => errors.push((error as { code?: unknown }).code),
  })
  await cluster.stop('fast')
  for (const source of ['192.0.2.1', '192.0.2.2'])
    refusals.record({ kind: 'refused', cause: 'no-evidence', node: null, session: null, source, detail: {} })
  await refusals.flush()
  t.same([...new Set(errors)], ['storage-unavailable'])
  t.equal(refusals.dropped(), 0)
  await cluster.start()
  // A connection of before may be found to be gone first.
  const recorded = async (): Promise<string[]> => {
    await refusals.flush()
    return (await listEvents(storage.db, { limit: 10 })).map(({ kind, source }) => `${kind} ${source}`)
  }
  await until(t, recorded, ['refused 192.0.2.1', 'refused 192.0.2.2'])
})
