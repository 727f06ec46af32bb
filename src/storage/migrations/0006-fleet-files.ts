import { type Kysely, sql } from 'kysely'

/** The sets of fleet files that were applied, and of each thing in them what they last said of it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('fleet_sets')
    .addColumn('name', 'text', (c) => c.primaryKey())
    .addColumn('files', 'text')
    .addColumn('applied_at', 'text')
    .addColumn('applied_by', 'text')
    .execute()
  await db.schema
    .createTable('fleet_objects')
    .addColumn('kind', 'text', (c) => c.notNull().check(sql`kind in ('node', 'profile', 'channel')`))
    .addColumn('name', 'text', (c) => c.notNull())
    // Each thing is in one set: two that speak of one thing would undo each other's changes for ever.
    .addColumn('set_name', 'text', (c) => c.notNull().references('fleet_sets.name'))
    .addColumn('document', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('fleet_objects_key', ['kind', 'name'])
    .execute()
  await db.schema.createIndex('fleet_objects_set').on('fleet_objects').column('set_name').execute()
}

/** What was applied stays; which file it came from is forgotten. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable('fleet_objects').execute()
  await db.schema.dropTable('fleet_sets').execute()
}
