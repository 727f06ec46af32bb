import { type RootOperationNode, sql } from 'kysely'
import t from 'tap'
import { nodeChain } from '../../src/domain/event.ts'
import type { Queries } from '../../src/storage/database.ts'
import { appendEvents } from '../../src/storage/event-batch.ts'
import { appendEvent, listEvents } from '../../src/storage/events.ts'
import { listNodeChanges } from '../../src/storage/fleet-files.ts'
import { countRootUsers } from '../../src/storage/node-roots.ts'
import { listLastEvents } from '../../src/storage/revisions.ts'
import { listOldSessions } from '../../src/storage/session-retention.ts'
import { countRefusals } from '../../src/storage/status.ts'
import type { EventRow } from '../../src/storage/tables.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { boot, machineOf, report } from '../helpers/machine.ts'
import { forEachDatabase, type World, worldBegins } from '../helpers/world.ts'

/** Which indexes there are is decided by what boots pay for them, and by what is asked of a large record: both are looked at here. */

type Ask = (db: Queries) => Promise<unknown>

/** How a database goes about what is asked of it, the last statement counting. */
async function planOf(world: World, ask: Ask): Promise<string> {
  const { db, dialect } = world.context.storage
  const asked: RootOperationNode[] = []
  const watched = db.withPlugin({
    transformQuery: ({ node }) => {
      asked.push(node)
      return node
    },
    transformResult: async ({ result }) => result,
  })
  await ask(watched as Queries)
  const last = asked.at(-1)
  if (last === undefined) throw new Error('nothing was asked')
  return db.transaction().execute(async (tx) => {
    // PostgreSQL reads small tables whole, whatever indexes they have.
    if (dialect === 'postgres') await sql`set local enable_seqscan = off`.execute(tx)
    const query = tx.getExecutor().compileQuery(last, { queryId: 'plan' } as never)
    const how = dialect === 'postgres' ? 'explain' : 'explain query plan'
    const { rows } = await tx.executeQuery({ ...query, sql: `${how} ${query.sql}` })
    return (rows as Record<string, unknown>[]).map((row) => row['QUERY PLAN'] ?? row.detail).join('\n')
  })
}

const ids = async (listed: Promise<readonly EventRow[]>): Promise<number[]> =>
  (await listed).map(({ id }) => Number(id))

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('what is asked of a large record uses an index', async (t) => {
    const world = await openWorld()
    const own = /events_chain_seq|sqlite_autoindex_events_1/
    const old = { cutoff: worldBegins.toISOString(), limit: 10 }
    const after = { id: 'a', ended_at: worldBegins.toISOString(), stays: false, told: false }
    const asks: [string, RegExp, Ask][] = [
      ['the last events of a node', own, (db) => listEvents(db, { node: 'n', limit: 500, newest: true })],
      [
        'those behind a cursor',
        own,
        (db) => listEvents(db, { node: 'n', after: 5, upTo: 900_000, limit: 100 }),
      ],
      ['those since a time', own, (db) => listEvents(db, { node: 'n', since: worldBegins, limit: 100 })],
      ['those of a kind', own, (db) => listEvents(db, { node: 'n', kind: 'refused', limit: 100 })],
      [
        'what changed a node last',
        own,
        (db) => listLastEvents(db, { kinds: ['node-changed', 'node-added'], node: 'n', limit: 5 }),
      ],
      [
        'what changed nodes',
        /events_kind|events_chain_seq|sqlite_autoindex_events_1/,
        (db) => listNodeChanges(db, ['a', 'b'], ['node-changed', 'node-added']),
      ],
      ['events of a kind', /events_kind/, (db) => listEvents(db, { kind: 'backup-made', limit: 1 })],
      ['events of a session', /events_session/, (db) => listEvents(db, { session: 's', limit: 200 })],
      ['refusals of the last day', /events_at|events_kind/, (db) => countRefusals(db, worldBegins)],
      [
        'sessions that ended long ago',
        /sessions_ended_at/,
        (db) => listOldSessions(db, { ...old, after: undefined }),
      ],
      ['and the next of them', /sessions_ended_at/, (db) => listOldSessions(db, { ...old, after })],
    ]
    for (const [what, index, ask] of asks) {
      const plan = await planOf(world, ask)
      t.match(plan, index, what)
      t.notMatch(plan, /SCAN events|Seq Scan on events/, what)
    }
    t.equal(await countRootUsers(world.context.storage.db, 'root'), 0, 'reads all that nodes came by')
  })

  await t.test('a boot writes no index that nothing needs', async (t) => {
    const world = await openWorld()
    const { db, dialect } = world.context.storage
    const query =
      dialect === 'postgres'
        ? sql<{ name: string }>`select indexname as name from pg_indexes where schemaname = current_schema()
            and tablename in ('events', 'node_roots', 'sessions')`
        : sql<{ name: string }>`select name from sqlite_master where type = 'index' and sql is not null
            and tbl_name in ('events', 'node_roots', 'sessions')`
    const names = (await query.execute(db)).rows.map(({ name }) => name).sort()
    const both = [
      ...['events_at', 'events_kind', 'events_session'],
      ...['sessions_ended_at', 'sessions_live', 'sessions_node'],
    ]
    // PostgreSQL lists those of keys too. The release before, which may serve beside this one, asks for a node's events by its name.
    const keys = ['events_chain_seq', 'events_node', 'events_pkey', 'node_roots_key', 'sessions_pkey']
    t.same(names, (dialect === 'postgres' ? [...both, ...keys] : both).sort())
  })

  await t.test("a node's events are told in the order of the log, page by page", async (t) => {
    const world = await openWorld()
    const { storage } = world.context
    const one = (node: string | null, n: number) => ({
      ...{ kind: 'refused' as const, at: new Date(worldBegins.getTime() - n * 1000), node },
      ...{ session: null, actor: 'node', source: null, detail: { n } },
    })
    // Later events have earlier times here: a clock that was set back changes no order.
    await storage.transaction(async (tx) => {
      for (let n = 0; n < 6; n++) for (const node of ['a', 'b', null]) await appendEvent(tx, one(node, n))
      await appendEvents(tx, storage.dialect, [one('b', 6), one('a', 6), one('b', 7), one('a', 7)])
    })
    const { db } = storage
    const all = await listEvents(db, { node: 'a', limit: 100 })
    t.same(
      all.map(({ detail }) => JSON.parse(detail).n),
      [0, 1, 2, 3, 4, 5, 6, 7],
    )
    t.ok(all.every(({ chain, node }) => node === 'a' && chain === nodeChain('a')))
    const of = all.map(({ id }) => Number(id))
    t.same(
      of,
      of.toSorted((a, b) => a - b),
    )
    t.same(await ids(listEvents(db, { node: 'a', limit: 3, newest: true })), of.slice(-3))
    const told: number[] = []
    for (let page = [0]; page.length > 0; ) {
      page = await ids(listEvents(db, { node: 'a', after: told.at(-1) ?? 0, limit: 3 }))
      told.push(...page)
    }
    t.same(told, of)
    t.same(await ids(listEvents(db, { node: 'none', limit: 3 })), [])
  })

  await t.test('tokens that are retired already are not written once more', async (t) => {
    const world = await openWorld()
    const { db, dialect } = world.context.storage
    const learnt = await boot(world, machineOf(await storeDemoFleet(world)), 'join')
    const before = await db.selectFrom('tokens').selectAll().orderBy('kind').execute()
    const retired = before.filter(({ retired_at, answer }) => retired_at !== null && answer === null)
    t.ok(retired.length >= 3)
    const written = await watchTokens(db, dialect)
    world.clock.advance(5)
    await report(world, machineOf(''), learnt.report, 'success')
    const after = await db.selectFrom('tokens').selectAll().orderBy('kind').execute()
    t.same(
      after.filter(({ kind }) => retired.some((one) => one.kind === kind)),
      retired,
    )
    t.ok(
      after.every(
        ({ kind, retired_at, answer }) => kind === 'report' || (retired_at !== null && answer === null),
      ),
      'none that is good is left but that of the report, and no answer',
    )
    t.same(
      (await written()).filter((kind) => retired.some((one) => one.kind === kind)),
      [],
    )
  })
})

/** Has the database take down the kinds of the tokens that it writes. */
async function watchTokens(db: Queries, dialect: 'sqlite' | 'postgres'): Promise<() => Promise<string[]>> {
  await sql`create table written (kind text)`.execute(db)
  if (dialect === 'postgres') {
    await sql`create function note_written() returns trigger language plpgsql as
      'begin insert into written values (new.kind); return new; end'`.execute(db)
    await sql`create trigger note_written before update on tokens for each row execute function note_written()`.execute(
      db,
    )
  } else {
    await sql`create trigger note_written after update on tokens begin insert into written values (new.kind); end`.execute(
      db,
    )
  }
  return async () =>
    (await sql<{ kind: string }>`select kind from written`.execute(db)).rows.map(({ kind }) => kind)
}
