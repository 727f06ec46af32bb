import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, cpSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { retiredContext } from '../../src/backup/retire.ts'
import { inTransaction } from '../../src/boot/work.ts'
import { traceIdOf } from '../../src/domain/trace.ts'
import {
  configOf,
  forEachPlace,
  type Installed,
  install,
  postgres,
  temporaryFolder,
  withStorage,
} from '../backup/helpers.ts'
import { postgresAbsent } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'
import { type Collector, startCollector, takeAll } from './collector.ts'

const bin = join(import.meta.dirname, '../../bin/pawl')

/** A `pawl server` of its own on a data folder, once it is ready. */
async function startServer(
  t: Test,
  { dataDir, database }: Pick<Installed, 'dataDir' | 'database'>,
  { url }: Pick<Collector, 'url'>,
): Promise<ChildProcess> {
  const listen = ['--boot-listen', '127.0.0.1:0', '--operator-listen', '127.0.0.1:0']
  const child = spawn(
    bin,
    ['server', '--data', dataDir, '--database', database, ...listen, '--otlp-endpoint', url],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let log = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text
  })
  t.teardown(() => child.kill('SIGKILL'))
  const ended = once(child, 'exit').then(() => Promise.reject(new Error(`it ended: ${log}`)))
  ended.catch(() => {})
  await Promise.race([once(child.stdout, 'data'), ended])
  return child
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL')
  await once(child, 'exit')
}

/** Boots that ended a minute ago, in the order of the log. */
async function endBoots({ dataDir, database }: Installed, names: readonly string[]): Promise<void> {
  const at = new Date(Date.now() - 60_000)
  await withStorage(database, async (storage) => {
    const context = retiredContext(storage, { config: configOf(dataDir, { database }), now: at })
    await inTransaction(context, async (work) => {
      for (const id of names) {
        const when = at.toISOString()
        await work.tx
          .insertInto('sessions')
          .values({
            ...{
              id,
              node: 'id-node1',
              sequence: 'boot',
              tokens: 'native',
              local: 0,
              state: 'ready',
              stage: 'report',
            },
            ...{
              cause: null,
              pinned: JSON.stringify({ profile: 'demo', evidence: ['secret'] }),
              facts: '{}',
            },
            ...{
              source: '192.0.2.10',
              started_at: when,
              last_seen_at: when,
              expires_at: when,
              ended_at: when,
            },
          })
          .execute()
        await work.event({
          kind: 'session-ready',
          node: 'node1',
          session: id,
          actor: 'node',
          source: null,
          detail: {},
        })
      }
    })
    // As if traces had been on before.
    await storage.db
      .insertInto('trace_cursor')
      .values({ id: 1, event: 0 })
      .onConflict((c) => c.doNothing())
      .execute()
  })
}

const bodies = ({ requests }: Collector): string[] => requests.map(({ body }) => body.toString('hex'))

await forEachPlace(t, async (t, place) => {
  await t.test(
    'killed between the end of a boot and the answer: it is sent again, under the same ids',
    async (t) => {
      const installed = await install(t, place)
      const collector = await startCollector(t)
      collector.answer = () => {}
      await endBoots(installed, ['one'])
      const first = await startServer(t, installed, collector)
      await collector.sent(1)
      await kill(first)
      collector.answer = takeAll
      await endBoots(installed, ['two'])
      const second = await startServer(t, installed, collector)
      await collector.sent(2)
      t.same([...collector.traces().keys()], ['one', 'two'].map(traceIdOf))
      const [before = [], again = []] = collector.requests.map(({ spans }) =>
        spans.filter(({ trace }) => trace === traceIdOf('one')),
      )
      t.same(again, before)
      // What it has exported is not sent a third time: the next request has the next boot alone.
      await endBoots(installed, ['three'])
      await collector.sent(3)
      await kill(second)
      t.same(new Set(collector.requests[2]?.spans.map(({ trace }) => trace)), new Set([traceIdOf('three')]))
      t.same(collector.faults, [])
    },
  )
})

const absent = process.env.PAWL_REQUIRE === 'all' ? undefined : postgresAbsent()
t.test(
  'of two servers on one PostgreSQL one exports',
  absent === undefined ? {} : { skip: absent },
  async (t) => {
    const installed = await install(t, postgres)
    const copy = join(temporaryFolder(t), 'copy')
    cpSync(installed.dataDir, copy, { recursive: true, mode: 0 })
    for (const folder of [copy, join(copy, 'pki')]) chmodSync(folder, 0o700)
    const collector = await startCollector(t)
    await endBoots(installed, ['a', 'b'])
    const servers = [
      await startServer(t, installed, collector),
      await startServer(t, { ...installed, dataDir: copy }, collector),
    ]
    await collector.sent(1)
    await endBoots(installed, ['c'])
    await collector.sent(2)
    await withStorage(installed.database, ({ db }) =>
      until(
        t,
        async () => {
          const cursor = await db.selectFrom('trace_cursor').select('event').executeTakeFirst()
          const last = await db
            .selectFrom('events')
            .select('id')
            .where('session', '=', 'c')
            .executeTakeFirst()
          return Number(cursor?.event) === Number(last?.id)
        },
        true,
      ),
    )
    // The one that led is gone: the other goes on where it was.
    const [leader] = servers
    await kill(leader as ChildProcess)
    await endBoots(installed, ['d'])
    await collector.sent(3)
    t.same(
      collector.requests.map(({ spans }) => new Set(spans.map(({ trace }) => trace))),
      [['a', 'b'], ['c'], ['d']].map((names) => new Set(names.map(traceIdOf))),
      'each boot once',
    )
    t.equal(new Set(bodies(collector)).size, 3)
    t.same(collector.faults, [])
  },
)
