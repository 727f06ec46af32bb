import { type Kysely, sql } from 'kysely'

/** The tokens of the URLs that cloud-init and Ignition ask: good while their stage lasts, and so often for each file. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('join_seeds')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('session', 'text', (c) => c.notNull().references('sessions.id').onDelete('cascade'))
    .addColumn('kind', 'text', (c) => c.notNull())
    .addColumn('secret_hash', 'text', (c) => c.notNull())
    .addColumn('issued_at', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'text', (c) => c.notNull())
    .addColumn('asked', 'text', (c) => c.notNull())
    .addUniqueConstraint('join_seeds_one_of_a_kind', ['session', 'kind'])
    .addCheckConstraint('join_seeds_kind', sql`kind in ('nocloud', 'ignition', 'ignition-boot')`)
    .addCheckConstraint('join_seeds_hash', sql`length(secret_hash) = 64`)
    .execute()
}

/** The release before hands out none: what asks for one is refused, and that boot begins anew. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable('join_seeds').execute()
}
