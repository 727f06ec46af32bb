import type { Kysely } from 'kysely'

/** By which root each node booted, and when last: what a root's rotation waits for. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('node_roots')
    .addColumn('node', 'text', (c) => c.notNull().references('nodes.id').onDelete('cascade'))
    .addColumn('root', 'text', (c) => c.notNull())
    .addColumn('first_at', 'text', (c) => c.notNull())
    .addColumn('last_at', 'text', (c) => c.notNull())
    .addColumn('last_source', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('node_roots_key', ['node', 'root'])
    .execute()
  await db.schema.createIndex('node_roots_root').on('node_roots').columns(['root', 'last_at']).execute()
}

/** Back to the release before, which has one root: which node knows which is forgotten. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable('node_roots').execute()
}
