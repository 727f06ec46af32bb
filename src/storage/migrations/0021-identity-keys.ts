import type { Kysely } from 'kysely'

/**
 * The identities of nodes: the keys that sign their documents, sealed; the key that each boot made itself; and the proofs that were
 * used, so that none is taken twice by any process.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('identity_keys')
    .addColumn('generation', 'integer', (c) => c.primaryKey())
    .addColumn('kid', 'text', (c) => c.notNull().unique())
    .addColumn('jwk', 'text', (c) => c.notNull())
    .addColumn('sealed', 'text', (c) => c.notNull())
    .addColumn('made_at', 'text', (c) => c.notNull())
    .addColumn('signs_from', 'text', (c) => c.notNull())
    .addColumn('ends_at', 'text')
    .execute()
  await db.schema
    .createTable('node_identities')
    .addColumn('thumbprint', 'text', (c) => c.primaryKey())
    .addColumn('node', 'text', (c) => c.notNull().references('nodes.id').onDelete('cascade'))
    .addColumn('session', 'text', (c) => c.notNull().unique().references('sessions.id').onDelete('cascade'))
    .addColumn('jwk', 'text', (c) => c.notNull())
    .addColumn('registered_at', 'text', (c) => c.notNull())
    .addColumn('issued_at', 'text')
    .addColumn('issued_until', 'text')
    .addColumn('issued_count', 'integer', (c) => c.notNull())
    .addColumn('audiences', 'text', (c) => c.notNull())
    .execute()
  await db.schema.createIndex('node_identities_node').on('node_identities').column('node').execute()
  await db.schema
    .createTable('identity_proofs')
    .addColumn('thumbprint', 'text', (c) =>
      c.notNull().references('node_identities.thumbprint').onDelete('cascade'),
    )
    .addColumn('jti', 'text', (c) => c.notNull())
    .addColumn('ends_at', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('identity_proofs_key', ['thumbprint', 'jti'])
    .execute()
}

/** The release before gives nodes no identity: what was given runs out, and nobody can check it from then on. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable('identity_proofs').execute()
  await db.schema.dropTable('node_identities').execute()
  await db.schema.dropTable('identity_keys').execute()
}
