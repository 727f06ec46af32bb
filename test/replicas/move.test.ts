import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Kysely, sql } from 'kysely'
import t, { type Test } from 'tap'
import { type Moved, type MoveOptions, moveDatabase, moveSteps } from '../../src/move-database.ts'
import { openStorage } from '../../src/storage/database.ts'
import { appendEvent, listEvents, verifyChains } from '../../src/storage/events.ts'
import { openSnapshot } from '../../src/storage/snapshot.ts'
import { configOf, type Installed, install, serve, withStorage } from '../backup/helpers.ts'
import { postgresAbsent } from '../helpers/postgres.ts'
import { type Cluster, startCluster } from '../helpers/postgres-cluster.ts'

const skip = process.env.PAWL_REQUIRE === 'all' ? false : (postgresAbsent() ?? false)
const now = new Date('2026-11-21T12:00:00Z')

function move(installed: Installed, to: string, wish: Partial<MoveOptions> = {}): Promise<Moved> {
  const config = configOf(installed.dataDir)
  return moveDatabase({ config, to, now, ...wish })
}

async function rowsOf(location: string): Promise<Record<string, string[]>> {
  const snapshot = await openSnapshot(location)
  const all: Record<string, string[]> = {}
  for (const table of snapshot.tables) {
    const texts: string[] = []
    for await (const rows of snapshot.rows(table))
      texts.push(...rows.map((row) => JSON.stringify(Object.entries(row).sort())))
    all[table] = texts.sort()
  }
  await snapshot.close()
  return all
}

async function withEvents(t: Test): Promise<Installed> {
  const installed = await install(t)
  await withStorage(installed.database, async (storage) => {
    for (let n = 0; n < 30; n += 1) {
      const facts = { kind: 'node-changed', at: now, detail: { n, text: 'ü \u2028 "quoted"' } } as const
      await storage.transaction((tx) =>
        appendEvent(tx, {
          ...facts,
          node: `node${1 + (n % 3)}`,
          session: null,
          source: null,
          actor: 'operator:test',
        }),
      )
    }
    // Numbers that were given and are gone are not given again: followers would take them for seen.
    await sql`update sqlite_sequence set seq = 500 where name = 'events'`.execute(storage.db)
  })
  return installed
}

t.test('an installation moves whole, and goes on', { skip }, async (t) => {
  const cluster = await startCluster(t)
  const installed = await withEvents(t)
  const to = await cluster.create('moved')
  const before = await rowsOf(installed.database)
  const moved = await move(installed, to)
  t.match(moved, { from: installed.database, to, chains: 4, checkpoint: 1 })
  t.equal(moved.rows, Object.values(before).flat().length)
  t.same(await rowsOf(installed.database), before, 'the old one is as it was')
  await withStorage(to, async ({ db }) => {
    const kinds = (await listEvents(db, { limit: 1000 })).map(({ id, kind }) => `${Number(id)} ${kind}`)
    t.same(kinds.slice(-2), ['501 database-moved', '502 checkpoint-signed'])
    t.same((await verifyChains(db)).faults, [])
  })
  const server = await serve(t, installed.dataDir, to)
  t.match(server.ready, { event: 'ready' })
  await server.close()
  await t.rejects(move(installed, to), { code: 'exists', message: /moved is not empty/ }, 'not a second time')
})

t.test('refuses what is no such move, and changes nothing', { skip }, async (t) => {
  const cluster = await startCluster(t)
  const installed = await withEvents(t)
  const to = await cluster.create('refused')
  await t.rejects(move(installed, '/other.db'), { code: 'usage', message: /to PostgreSQL/ })
  await t.rejects(
    move(installed, 'postgres://pawl:se/cret@db/pawl'),
    { code: 'usage' },
    'no URL: / is not encoded',
  )
  await t.rejects(moveDatabase({ config: configOf(installed.dataDir, { database: to }), to, now }), {
    code: 'usage',
    message: /on PostgreSQL already/,
  })
  await t.rejects(move(installed, `${to}_absent`), { message: /does not exist/ })
  await cluster.query('create table mine (id int)', 'refused')
  await t.rejects(move(installed, to), { code: 'exists', message: /table mine/ })
  await cluster.query('drop table mine', 'refused')
  const server = await serve(t, installed.dataDir, installed.database)
  await t.rejects(move(installed, to), { code: 'conflict', message: /in use/ }, 'while a server runs')
  await server.close()
  const running = move(installed, to, {
    faults: (step) => {
      if (step === 'filled') throw new Error('cut off')
    },
  })
  await t.rejects(running, { message: 'cut off' })
  t.ok(existsSync(installed.database))
})

/** A process that is killed at a step of its move. */
async function killedAt(cluster: Cluster, installed: Installed, to: string, step: string): Promise<void> {
  const script = join(import.meta.dirname, 'move-child.ts')
  const child = spawn(process.execPath, [
    '--disable-warning=ExperimentalWarning',
    script,
    installed.dataDir,
    to,
    step,
  ])
  const [, signal] = await once(child, 'exit')
  if (signal !== 'SIGKILL') throw new Error(`it was not killed at ${step}`)
  for (;;) {
    const rows = await cluster.query(
      `select 1 from pg_stat_activity where datname = '${new URL(to).pathname.slice(1)}'`,
    )
    if (rows.length === 0) return
  }
}

t.test(
  'killed at any step it begins anew, or the half-done database is refused; the old one stays',
  { skip },
  async (t) => {
    const cluster = await startCluster(t)
    const installed = await withEvents(t)
    const before = await rowsOf(installed.database)
    const settings = join(installed.dataDir, 'pawl.yaml')
    const text = readFileSync(settings, 'utf8')
    for (const [n, step] of moveSteps.entries()) {
      const to = await cluster.create(`killed_${n}`)
      await killedAt(cluster, installed, to, step)
      t.same(await rowsOf(installed.database), before, step)
      if (step === 'held') t.match(await move(installed, to), { checkpoint: 1 }, 'begun anew')
      else await t.rejects(move(installed, to), { code: 'exists' }, `${step}: its rows are there`)
    }
    writeFileSync(settings, text)
    const storage = await openStorage(installed.database)
    t.teardown(() => storage.close())
    t.same(
      (await verifyChains(storage.db as unknown as Kysely<never> as never)).faults,
      [],
      'a server goes on with it',
    )
  },
)
