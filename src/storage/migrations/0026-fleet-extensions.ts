import { type Kysely, sql } from 'kysely'

const kinds = ['node', 'profile', 'channel', 'extension'] as const

/** Fleet files speak of extensions, too. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await allowKinds(db, kinds)
}

/** The release before knows the other kinds: extensions stay, and are in no set. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`delete from fleet_objects where kind = 'extension'`.execute(db)
  await allowKinds(
    db,
    kinds.filter((kind) => kind !== 'extension'),
  )
}

/** SQLite cannot change a constraint: its table, which nothing refers to, is made anew. */
async function allowKinds(db: Kysely<unknown>, allowed: readonly string[]): Promise<void> {
  const check = sql`kind in (${sql.raw(allowed.map((kind) => `'${kind}'`).join(', '))})` // constants of ours
  if (db.getExecutor().adapter.supportsMultipleConnections === true) {
    await sql`alter table fleet_objects drop constraint fleet_objects_kind_check`.execute(db)
    await sql`alter table fleet_objects add constraint fleet_objects_kind_check check (${check})`.execute(db)
    return
  }
  await db.schema
    .createTable('fleet_objects_next')
    .addColumn('kind', 'text', (c) => c.notNull().check(check))
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('set_name', 'text', (c) => c.notNull().references('fleet_sets.name'))
    .addColumn('document', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('fleet_objects_key', ['kind', 'name'])
    .execute()
  await sql`insert into fleet_objects_next select * from fleet_objects`.execute(db)
  await db.schema.dropTable('fleet_objects').execute()
  await sql`alter table fleet_objects_next rename to fleet_objects`.execute(db)
  await db.schema.createIndex('fleet_objects_set').on('fleet_objects').column('set_name').execute()
}
