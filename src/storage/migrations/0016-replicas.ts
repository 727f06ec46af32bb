import type { Kysely } from 'kysely'

/** The servers on this database, and by what each would be told from one that does not fit to it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('replicas')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('host', 'text', (c) => c.notNull())
    .addColumn('pid', 'integer', (c) => c.notNull())
    .addColumn('version', 'text', (c) => c.notNull())
    .addColumn('leads', 'integer', (c) => c.notNull().defaultTo(0))
    .addColumn('started_at', 'text', (c) => c.notNull())
    .addColumn('seen_at', 'text', (c) => c.notNull())
    .addColumn('marks', 'text', (c) => c.notNull())
    .execute()
}

/** Back to the release before: each server writes its row again when it is of this one. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable('replicas').execute()
}
