import type { Kysely } from 'kysely'
import t from 'tap'
import { openAsItIs, openStorage } from '../../src/storage/database.ts'
import {
  appliedMigrations,
  knownMigrations,
  migrateDown,
  migrateToLatest,
  releases,
} from '../../src/storage/migrate.ts'
import { ownTables } from '../../src/storage/snapshot.ts'
import { forEachPlace, sqlite, temporaryFolder } from '../backup/helpers.ts'

/** Every table with its columns, their types and whether they may be null. */
async function schemaOf(db: Kysely<unknown>): Promise<string[]> {
  const own = await ownTables(db)
  const tables = (await db.introspection.getTables()).filter(({ name }) => own.includes(name))
  return tables
    .flatMap(({ name, columns }) =>
      columns.map(
        (column) =>
          `${name}.${column.name} ${column.dataType} ${column.isNullable} ${column.hasDefaultValue}`,
      ),
    )
    .sort()
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
      await migrateToLatest(fresh.db as unknown as Kysely<unknown>, last)
      t.same(old, await schemaOf(fresh.db as unknown as Kysely<unknown>), 'the schema is that of the release')
      await fresh.close()
    }
    await migrateToLatest(db)
    t.same(await schemaOf(db), newest, 'and forward again')
    await storage.close()
  })

  await t.test('an upgrade that fails in its middle changes nothing', async (t) => {
    const [last = ''] = Object.values(releases)
    const database = await place(temporaryFolder(t))
    const storage = await openStorage(database)
    const db = storage.db as unknown as Kysely<unknown>
    await storage.transaction(async (tx) => void (await migrateDown(tx as unknown as Kysely<unknown>, last)))
    await db.schema.createTable('webhooks').addColumn('in_the_way', 'text').execute()
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
