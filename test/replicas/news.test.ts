import t from 'tap'
import { openRefusalLog } from '../../src/boot/refusal-log.ts'
import { shareTransfers } from '../../src/boot/share-transfers.ts'
import { openTransfers } from '../../src/boot/transfers.ts'
import { openStorage } from '../../src/storage/database.ts'
import { listEvents } from '../../src/storage/events.ts'
import { postgresAbsent } from '../helpers/postgres.ts'
import { startCluster } from '../helpers/postgres-cluster.ts'

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
  await refusals.flush()
  const events = await listEvents(storage.db, { limit: 10 })
  t.same(
    events.map(({ kind, source }) => `${kind} ${source}`),
    ['refused 192.0.2.1', 'refused 192.0.2.2'],
  )
})
