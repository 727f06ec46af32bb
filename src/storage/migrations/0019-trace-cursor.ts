import type { Kysely } from 'kysely'

/** How far traces of boots were exported: the id of the last event that was looked at. One row, once they were ever turned on. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('trace_cursor')
    .addColumn('id', 'integer', (c) => c.primaryKey())
    .addColumn('event', 'bigint', (c) => c.notNull())
    .execute()
}

/** Back to a release that exports none. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable('trace_cursor').execute()
}
