import type { Kysely } from 'kysely'

/** The keys of TLS session tickets: sealed, one a period, the same for all processes on this database. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('ticket_keys')
    .addColumn('period', 'integer', (c) => c.primaryKey())
    .addColumn('sealed', 'text', (c) => c.notNull())
    .addColumn('made_at', 'text', (c) => c.notNull())
    .execute()
}

/** Back to the release before, whose processes make keys of their own: clients do whole handshakes. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable('ticket_keys').execute()
}
