import { sql } from 'kysely'
import t from 'tap'
import { type EventFacts, unknownChain } from '../../src/domain/event.ts'
import { settledId } from '../../src/storage/commit-order.ts'
import { openStorage, type Queries } from '../../src/storage/database.ts'
import { appendEvent, listEvents, trimChain, verifyChains } from '../../src/storage/events.ts'
import { postgresAbsent, startPostgres } from '../helpers/postgres.ts'
import { forEachDatabase, type World, worldBegins } from '../helpers/world.ts'

const facts = (n: number, node: string | null = 'node1'): EventFacts => ({
  kind: 'refused',
  at: new Date(worldBegins.getTime() + n * 1000),
  node,
  session: null,
  actor: 'node',
  source: '192.0.2.1',
  detail: { n },
})

async function append(
  world: World,
  count: number,
  node: string | null = 'node1',
  chain?: string,
): Promise<void> {
  await world.context.storage.transaction(async (tx) => {
    for (let n = 1; n <= count; n++) await appendEvent(tx, facts(n, node), chain)
  })
}

const at = (db: Queries, seq: number): Promise<{ hash: string }> =>
  db.selectFrom('events').select('hash').where('seq', '=', seq).executeTakeFirstOrThrow()

/** A database in which something happens behind each of the first answers that it gives. */
function whileReading(
  world: World,
  happens: readonly (() => Promise<unknown>)[],
): Queries & { done(): Promise<unknown> } {
  const { db, dialect } = world.context.storage
  const left = [...happens]
  const begun: Promise<unknown>[] = []
  const moving = db.withPlugin({
    transformQuery: ({ node }) => node,
    async transformResult({ result }) {
      const next = left.shift()
      if (next === undefined) return result
      begun.push(next())
      // SQLite's one connection is this reader's until its answer is given; what waits for it is the next to have it.
      if (dialect === 'postgres') await begun.at(-1)
      return result
    },
  })
  return Object.assign(moving, { done: () => Promise.all(begun) })
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('finds every edit, removal, insertion and reordering', async (t) => {
    const table: [string, (db: Queries) => Promise<unknown>, object][] = [
      ...(['at', 'kind', 'node', 'session', 'actor', 'source', 'detail'] as const).map(
        (column): [string, (db: Queries) => Promise<unknown>, object] => [
          `${column} edited`,
          (db) =>
            db
              .updateTable('events')
              .set({ [column]: 'x' })
              .where('seq', '=', 3)
              .execute(),
          { seq: 3, fault: 'edited' },
        ],
      ),
      [
        'a hash edited',
        (db) => db.updateTable('events').set({ hash: 'x' }).where('seq', '=', 3).execute(),
        { seq: 3, fault: 'edited' },
      ],
      [
        'an event removed',
        (db) => db.deleteFrom('events').where('seq', '=', 3).execute(),
        { seq: 3, fault: 'missing' },
      ],
      [
        'the first removed',
        (db) => db.deleteFrom('events').where('seq', '=', 1).execute(),
        { seq: 1, fault: 'missing' },
      ],
      [
        'the last removed',
        (db) => db.deleteFrom('events').where('seq', '=', 5).execute(),
        { seq: 5, fault: 'cut off' },
      ],
      [
        'two swapped',
        async (db) => {
          for (const [from, to] of [
            [2, 99],
            [3, 2],
            [99, 3],
          ] as const)
            await db.updateTable('events').set({ seq: to }).where('seq', '=', from).execute()
        },
        { seq: 2, fault: 'edited' },
      ],
      ['the chain forgotten', (db) => db.deleteFrom('chains').execute(), { seq: 1, fault: 'out of order' }],
      [
        'the head moved back',
        (db) => db.updateTable('chains').set({ head_seq: 4 }).execute(),
        { seq: 5, fault: 'cut off' },
      ],
      [
        'the head moved back with its hash',
        async (db) => {
          const { hash } = await at(db, 4)
          await db.updateTable('chains').set({ head_seq: 4, head_hash: hash }).execute()
        },
        { seq: 5, fault: 'out of order' },
      ],
      [
        'the beginning moved along with its hash',
        async (db) => {
          const { hash } = await at(db, 2)
          await db.updateTable('chains').set({ base_seq: 2, base_hash: hash }).execute()
        },
        { seq: 1, fault: 'out of order' },
      ],
    ]
    for (const [what, tamper, fault] of table) {
      const world = await openWorld({ verify: false })
      await append(world, 5)
      t.same((await verifyChains(world.context.storage.db, 2)).faults, [], `${what}: sound before`)
      await tamper(world.context.storage.db)
      t.match(
        (await verifyChains(world.context.storage.db, 2)).faults,
        [{ chain: 'node/node1', ...fault }],
        what,
      )
    }
  })

  await t.test('what is written or trimmed while every chain is read is no fault', async (t) => {
    const world = await openWorld()
    const { storage } = world.context
    await append(world, 20)
    const grow = (): Promise<unknown> => append(world, 3)
    const trim = (keep: number) => (): Promise<unknown> =>
      storage.transaction((tx) => trimChain(tx, 'node/node1', keep))
    const table: [what: string, happens: (() => Promise<unknown>)[]][] = [
      ['events behind the end', [grow, grow, grow]],
      ['a trim before the first page', [trim(22)]],
      ['a trim that overtakes the reader', [async () => {}, trim(12)]],
      ['both, again and again', [trim(11), grow, trim(10), trim(9), grow, trim(5)]],
    ]
    for (const [what, happens] of table) {
      const db = whileReading(world, happens)
      const { faults } = await verifyChains(db, 2)
      await db.done()
      t.same(faults, [], what)
    }
    const other = await openWorld({ verify: false })
    await append(other, 10)
    await other.context.storage.db.deleteFrom('events').where('seq', '=', 8).execute()
    const db = whileReading(other, [
      () => other.context.storage.transaction((tx) => trimChain(tx, 'node/node1', 6)),
    ])
    t.match((await verifyChains(db, 2)).faults, [{ seq: 8, fault: 'missing' }], 'a gap is found all the same')
    await db.done()
  })

  await t.test('each chain has its own numbers, without gaps, whoever writes at once', async (t) => {
    const world = await openWorld()
    await Promise.all([
      append(world, 20),
      append(world, 20, 'node2'),
      append(world, 20),
      append(world, 5, null),
    ])
    const { chains, events, faults } = await verifyChains(world.context.storage.db)
    t.same({ chains, events, faults }, { chains: 3, events: 65, faults: [] })
    const rows = await world.context.storage.db
      .selectFrom('events')
      .select(['chain', 'seq'])
      .where('chain', '=', 'node/node1')
      .orderBy('seq')
      .execute()
    t.same(
      rows.map((row) => row.seq),
      Array.from({ length: 40 }, (_, i) => i + 1),
    )
  })

  await t.test('a follower sees every event exactly once, whoever writes meanwhile', async (t) => {
    const world = await openWorld()
    const { db } = world.context.storage
    const seen: string[] = []
    let after = 0
    const read = async (): Promise<void> => {
      const rows = await listEvents(db, { after, limit: 17 })
      for (const row of rows) {
        t.ok(Number(row.id) > after, 'ids go up')
        after = Number(row.id)
        seen.push(`${row.chain} ${row.seq}`)
      }
    }
    let writing = 8
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      for (let n = 0; n < 25; n++) await append(world, 1 + ((writer + n) % 4), `node${writer % 5}`)
      writing -= 1
    })
    while (writing > 0) await read()
    await Promise.all(writers)
    for (let before = -1; before < seen.length; ) {
      before = seen.length
      await read()
    }
    const all = await listEvents(db, { limit: 10_000 })
    t.equal(all.length, 500)
    t.same([...seen].sort(), all.map((row) => `${row.chain} ${row.seq}`).sort())
  })

  await t.test('a chain that was trimmed still verifies, and a gap is not trimmed away', async (t) => {
    const world = await openWorld()
    const { storage } = world.context
    await append(world, 30, null, unknownChain)
    await storage.transaction((tx) => trimChain(tx, unknownChain, 10))
    t.match(await verifyChains(storage.db), { events: 10, faults: [] })
    await append(world, 3, null, unknownChain)
    t.match(await verifyChains(storage.db), { events: 13, faults: [] })
  })

  await t.test('rows that no state table knows cannot be stored', async (t) => {
    const world = await openWorld()
    const { db } = world.context.storage
    const at = worldBegins.toISOString()
    await db
      .insertInto('profiles')
      .values({ name: 'p', document: '{}', revision: 1, created_at: at, updated_at: at })
      .execute()
    const node = (changes: string): string =>
      `insert into nodes (id, name, state, failure_cause, labels, reinstall, reinstall_attempts, reinstall_session, armed, secret_id, secret_hash, created_at, updated_at, profile) select ${changes}`
    const table: [string, string][] = [
      ['a state of its own', node(`'1', 'a', 'x', null, '{}', 'none', 0, null, 0, null, null, '', '', null`)],
      [
        'failed without a cause',
        node(`'1', 'a', 'failed', null, '{}', 'none', 0, null, 0, null, null, '', '', null`),
      ],
      [
        'a cause without failed',
        node(`'1', 'a', 'ready', 'expired', '{}', 'none', 0, null, 0, null, null, '', '', null`),
      ],
      [
        'serving without a session',
        node(`'1', 'a', 'booting', null, '{}', 'serving', 0, null, 0, null, null, '', '', null`),
      ],
      [
        'marked with a session',
        node(`'1', 'a', 'booting', null, '{}', 'marked', 0, 's', 0, null, null, '', '', null`),
      ],
      ['half a secret', node(`'1', 'a', 'ready', null, '{}', 'none', 0, null, 0, 'x', null, '', '', null`)],
      [
        'negative attempts',
        node(`'1', 'a', 'ready', null, '{}', 'none', -1, null, 0, null, null, '', '', null`),
      ],
      [
        'a profile that is not there',
        node(`'1', 'a', 'ready', null, '{}', 'none', 0, null, 0, null, null, '', '', 'q'`),
      ],
    ]
    for (const [what, statement] of table) await t.rejects(sql.raw(statement).execute(db), what)
    await sql
      .raw(node(`'1', 'a', 'ready', null, '{}', 'none', 0, null, 0, null, null, '', '', 'p'`))
      .execute(db)
    const session = (changes: string): string =>
      `insert into sessions (id, node, sequence, tokens, local, state, stage, pinned, facts, source, started_at, last_seen_at, expires_at, ended_at) select ${changes}`
    const live = `'s1', '1', 'boot', 'native', 0, 'stage1', 'stage1', '{}', '{}', '', '', '', '', null`
    await sql.raw(session(live)).execute(db)
    const sessions: [string, string][] = [
      ['a second live session', live.replace('s1', 's2')],
      [
        'ended without a time',
        `'s2', '1', 'boot', 'native', 0, 'ready', 'report', '{}', '{}', '', '', '', '', null`,
      ],
      [
        'a time without an end',
        `'s2', '1', 'boot', 'native', 0, 'stage2', 'stage2', '{}', '{}', '', '', '', '', 'x'`,
      ],
      [
        'a local session that goes on',
        `'s2', '1', 'boot', 'native', 1, 'stage2', 'stage2', '{}', '{}', '', '', '', '', null`,
      ],
      [
        'a sequence of its own',
        `'s2', '1', 'x', 'native', 0, 'ready', 'report', '{}', '{}', '', '', '', '', 'x'`,
      ],
    ]
    for (const [what, values] of sessions) await t.rejects(sql.raw(session(values)).execute(db), what)
    const token = (values: string): string =>
      `insert into tokens (id, session, kind, secret_hash, issued_at, expires_at, consumed_at, answer) select ${values}`
    const hash = 'a'.repeat(64)
    await sql.raw(token(`'t1', 's1', 'stage2', '${hash}', '', '', null, null`)).execute(db)
    const tokens: [string, string][] = [
      ['a second token of one kind', `'t2', 's1', 'stage2', '${hash}', '', '', null, null`],
      ['a kind of its own', `'t2', 's1', 'x', '${hash}', '', '', null, null`],
      ['a secret in clear', `'t2', 's1', 'stage3', 'secret', '', '', null, null`],
      ['an answer before it was asked for', `'t2', 's1', 'stage3', '${hash}', '', '', null, 'x'`],
      ['a capability that is used up', `'t2', 's1', 'download-stage2', '${hash}', '', '', 'x', null`],
      ['a token of no session', `'t2', 'sx', 'stage3', '${hash}', '', '', null, null`],
    ]
    for (const [what, values] of tokens) await t.rejects(sql.raw(token(values)).execute(db), what)
  })
})

t.test('on PostgreSQL, ids that commit out of order', { skip: postgresAbsent() ?? false }, async (t) => {
  const url = await (await startPostgres()).createDatabase()
  const [one, other] = [await openStorage(url), await openStorage(url)]
  t.teardown(() => Promise.all([one.close(), other.close()]))
  const seen = (): Promise<number[]> =>
    listEvents(one.db, { after: 0, limit: 10 }).then((rows) => rows.map((row) => Number(row.id)))
  const gate = Promise.withResolvers<void>()
  const appended = Promise.withResolvers<void>()
  const slow = one.transaction(async (tx) => {
    await appendEvent(tx, facts(1, 'slow'))
    appended.resolve()
    await gate.promise
  })
  await appended.promise
  await other.transaction((tx) => appendEvent(tx, facts(2, 'quick')))
  const there = await listEvents(one.db, { limit: 10 })
  t.same(
    [there.map((row) => row.id), await seen(), await settledId(one.db)],
    [[2], [], 0],
    'id 2 is there, id 1 still may be',
  )
  await other
    .transaction(async (tx) => {
      await appendEvent(tx, facts(3, 'undone'))
      throw new Error('undone')
    })
    .catch(() => {})
  gate.resolve()
  await slow
  t.same(
    [await seen(), await settledId(one.db)],
    [[1, 2], 3],
    'both, once, in order; what was undone holds nothing up',
  )

  await t.test('another replica is woken, and again after its connection broke', async (t) => {
    const woken = (): Promise<void> =>
      new Promise((resolve) => {
        const stop = other.wake.subscribe(() => {
          stop()
          resolve()
        })
      })
    await woken() // its connection stands
    const first = woken()
    await one.transaction((tx) => appendEvent(tx, facts(4)))
    await first
    const again = woken()
    const cut = await sql`select pg_terminate_backend(pid) from pg_stat_activity
      where query like 'listen pawl_events%' and datname = current_database()`.execute(one.db)
    t.equal(cut.rows.length, 1, 'the one connection that listens was cut')
    await again
    const last = woken()
    await one.transaction((tx) => appendEvent(tx, facts(5)))
    await last
    t.pass('woken')
  })
})
