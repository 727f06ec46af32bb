import type { Kysely } from 'kysely'

/** Client certificates of nodes. A removed node's go with it: what names no row opens nothing. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('node_certificates')
    .addColumn('fingerprint', 'text', (c) => c.primaryKey())
    .addColumn('node', 'text', (c) => c.notNull().references('nodes.id').onDelete('cascade'))
    .addColumn('key_type', 'text', (c) => c.notNull())
    .addColumn('issued_at', 'text', (c) => c.notNull())
    .addColumn('issued_by', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'text', (c) => c.notNull())
    .addColumn('revoked_at', 'text')
    .addColumn('revoked_by', 'text')
    .addColumn('last_used_at', 'text')
    .addColumn('last_used_from', 'text')
    .execute()
  await db.schema
    .createIndex('node_certificates_node')
    .on('node_certificates')
    .columns(['node', 'issued_at'])
    .execute()
}

/**
 * The server of before knows no certificates, and no profile that requires them: it cannot read such a profile, and serves no
 * boot with it until it is changed.
 */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable('node_certificates').execute()
}
