import { type Kysely, sql } from 'kysely'
import t from 'tap'
import { freshSecret } from '../../src/boot/rotate-secret.ts'
import { type MintedToken, tokenFromRandom } from '../../src/domain/token.ts'
import { openAsItIs, openStorage } from '../../src/storage/database.ts'
import {
  appliedMigrations,
  isPostgres,
  knownMigrations,
  migrateDown,
  migrateToLatest,
  releases,
} from '../../src/storage/migrate.ts'
import { ownTables } from '../../src/storage/snapshot.ts'
import { forEachPlace, sqlite, temporaryFolder } from '../backup/helpers.ts'
import { newNode } from '../helpers/fleet.ts'

/** Every table with its columns, their types and whether they may be null; and every index. */
async function schemaOf(db: Kysely<unknown>): Promise<string[]> {
  const own = await ownTables(db)
  const tables = (await db.introspection.getTables()).filter(({ name }) => own.includes(name))
  const columns = tables.flatMap(({ name, columns }) =>
    columns.map(
      (column) => `${name}.${column.name} ${column.dataType} ${column.isNullable} ${column.hasDefaultValue}`,
    ),
  )
  const indexes = isPostgres(db)
    ? sql<{ text: string }>`select indexdef as text from pg_indexes where schemaname = current_schema()`
    : sql<{ text: string }>`select sql as text from sqlite_master where type = 'index' and sql is not null`
  return [...columns, ...(await indexes.execute(db)).rows.map(({ text }) => text)].sort()
}

await forEachPlace(t, async (t, place) => {
  await t.test('every change since the last release can be taken back', async (t) => {
    const [last = ''] = Object.values(releases)
    const database = await place(temporaryFolder(t))
    const storage = await openStorage(database)
    const db = storage.db as unknown as Kysely<unknown>
    const newest = await schemaOf(db)
    await storage.transaction(async (tx) => {
      t.same(
        await migrateDown(tx as unknown as Kysely<unknown>, last),
        knownMigrations.filter((name) => name > last).reverse(),
      )
    })
    t.same(
      await appliedMigrations(db),
      knownMigrations.filter((name) => name <= last),
    )
    const old = await schemaOf(db)
    t.ok(old.length < newest.length)
    if (place === sqlite) {
      const fresh = openAsItIs(await place(temporaryFolder(t)))
      await migrateToLatest(fresh.db as unknown as Kysely<unknown>, { target: last })
      t.same(old, await schemaOf(fresh.db as unknown as Kysely<unknown>), 'the schema is that of the release')
      await fresh.close()
    }
    await migrateToLatest(db)
    t.same(await schemaOf(db), newest, 'and forward again')
    await storage.close()
  })

  await t.test('enrolment secrets become rows, and columns again', async (t) => {
    const database = await place(temporaryFolder(t))
    const storage = await openStorage(database)
    const db = storage.db as unknown as Kysely<unknown>
    const down = (): Promise<void> =>
      storage.transaction(
        async (tx) => void (await migrateDown(tx as unknown as Kysely<unknown>, '0009-webhooks')),
      )
    const current = async (): Promise<(string | null)[]> =>
      (await storage.db.selectFrom('nodes').select('secret_id').orderBy('name').execute()).map(
        (n) => n.secret_id,
      )
    await down()
    const at = '2026-11-21T06:00:00.000Z'
    const secrets = ['a', 'b', 'c', 'd'].map((_, index) =>
      tokenFromRandom(new Uint8Array(33).fill(index + 1)),
    )
    const [a, b, c, d] = secrets as [MintedToken, MintedToken, MintedToken, MintedToken]
    const bare = { ...newNode('e', a, at), secret_id: null, secret_hash: null }
    const nodes = [newNode('a', a, at), newNode('b', b, at), newNode('c', c, at), newNode('d', d, at), bare]
    for (const node of nodes)
      await db
        .insertInto('nodes' as never)
        .values({ ...node, profile: null } as never)
        .execute()
    await migrateToLatest(db)
    t.match(await storage.db.selectFrom('node_secrets').selectAll().orderBy('node').execute(), [
      {
        id: a.id,
        node: 'id-a',
        kind: 'static',
        issued_at: at,
        secret_hash: a.hash,
        ended: null,
        expires_at: null,
      },
      { id: b.id },
      { id: c.id },
      { id: d.id },
    ])
    t.same(await current(), [a.id, b.id, c.id, d.id, null], 'what a replica of before looks at stays')
    const change = (id: string, changes: object): Promise<unknown> =>
      storage.db.updateTable('node_secrets').set(changes).where('id', '=', id).execute()
    await change(a.id, { lifetime_seconds: 1, expires_at: '2026-11-21T06:00:01.000Z' })
    const next = { node: 'id-b', replaces: b.id, session: 's', issued_at: at, issued_by: 'server' }
    const rows = [
      { id: 'b-old', written_at: '2026-11-21T06:00:00.000Z', ...next },
      { id: 'b-new', written_at: '2026-11-21T07:00:00.000Z', ...next },
      { id: 'b-lost', ...next },
      { id: 'c-lost', ...next, node: 'id-c', replaces: c.id },
      { id: 'd-over', ...next, node: 'id-d', replaces: 'another', written_at: at },
    ]
    for (const row of rows)
      await storage.db
        .insertInto('node_secrets')
        .values({ ...freshSecret, secret_hash: 'f'.repeat(64), ...row })
        .execute()
    await down()
    t.same(
      await current(),
      [null, 'b-new', c.id, d.id, null],
      'none that ran out; the one that is on the medium, where the node said so; else the one that was',
    )
    await migrateToLatest(db)
    t.same(await current(), [null, 'b-new', c.id, d.id, null])
    await storage.close()
  })

  await t.test('an upgrade that fails in its middle changes nothing', async (t) => {
    const [last = ''] = Object.values(releases)
    const database = await place(temporaryFolder(t))
    const storage = await openStorage(database)
    const db = storage.db as unknown as Kysely<unknown>
    await storage.transaction(async (tx) => void (await migrateDown(tx as unknown as Kysely<unknown>, last)))
    await db.schema.createTable('node_roots').addColumn('in_the_way', 'text').execute()
    const before = await schemaOf(db)
    await t.rejects(migrateToLatest(db), { code: 'storage-unavailable', hint: /nothing of it was changed/ })
    t.same(await schemaOf(db), before)
    t.same(
      await appliedMigrations(db),
      knownMigrations.filter((name) => name <= last),
    )
    await storage.close()
  })
})
