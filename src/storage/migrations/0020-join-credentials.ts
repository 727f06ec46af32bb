import type { Kysely } from 'kysely'

/**
 * Credentials that were made for one boot session at a cluster, or are about to be: what must be removed there again. A row refers to nothing,
 * since it has to outlive its session and its node until its credential is gone.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('join_credentials')
    .addColumn('session', 'text', (c) => c.primaryKey())
    .addColumn('node', 'text', (c) => c.notNull())
    .addColumn('profile', 'text', (c) => c.notNull())
    .addColumn('sequence', 'text', (c) => c.notNull())
    .addColumn('kind', 'text', (c) => c.notNull())
    .addColumn('handle', 'text', (c) => c.notNull())
    .addColumn('sealed', 'text', (c) => c.notNull())
    .addColumn('settings', 'text', (c) => c.notNull())
    .addColumn('state', 'text', (c) => c.notNull())
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'text')
    .addColumn('call_until', 'text')
    .addColumn('made_at', 'text')
    .addColumn('fault', 'text')
    .addColumn('removal', 'text')
    .addColumn('remove_at', 'text')
    .addColumn('removal_tries', 'integer', (c) => c.notNull().defaultTo(0))
    .execute()
  await db.schema
    .createIndex('join_credentials_to_remove')
    .on('join_credentials')
    .column('remove_at')
    .execute()
}

/** Back to a release that makes none. What stands at a cluster then runs out by itself. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable('join_credentials').execute()
}
