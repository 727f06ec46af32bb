import type { Kysely } from 'kysely'

/**
 * The processes that serve, as each says every few seconds: what it has to do, and whom it told to come again. Servers say by
 * what they would be told from one that does not fit to them, and whether they lead; their workers do not.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('processes')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('host', 'text', (c) => c.notNull())
    .addColumn('pid', 'integer', (c) => c.notNull())
    .addColumn('role', 'text', (c) => c.notNull())
    .addColumn('started_at', 'text', (c) => c.notNull())
    .addColumn('seen_at', 'text', (c) => c.notNull())
    .addColumn('stats', 'text', (c) => c.notNull())
    .addColumn('version', 'text')
    .addColumn('leads', 'integer')
    .addColumn('marks', 'text')
    .execute()
}

/** Back to the release before, which is one process and says nothing of itself. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable('processes').execute()
}
