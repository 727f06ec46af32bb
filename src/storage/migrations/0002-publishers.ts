import { type Kysely, sql } from 'kysely'

/** Publishers, and the signatures that each made over published images. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('publishers')
    .addColumn('name', 'text', (c) => c.primaryKey())
    .addColumn('fingerprint', 'text', (c) => c.notNull().unique())
    .addColumn('certificates', 'text', (c) => c.notNull())
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('created_by', 'text', (c) => c.notNull())
    .addColumn('revoked_at', 'text')
    .addColumn('revoked_by', 'text')
    .addCheckConstraint('publishers_fingerprint', sql`length(fingerprint) = 64`)
    .addCheckConstraint('publishers_revoked', sql`(revoked_at is null) = (revoked_by is null)`)
    .execute()
  await db.schema
    .createTable('image_signatures')
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('version', 'text', (c) => c.notNull())
    .addColumn('publisher', 'text', (c) => c.notNull().references('publishers.name'))
    .addColumn('document', 'text', (c) => c.notNull())
    .addColumn('signed_at', 'text', (c) => c.notNull())
    .addColumn('signed_by', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('image_signatures_key', ['name', 'version', 'publisher'])
    .addForeignKeyConstraint(
      'image_signatures_image',
      ['name', 'version'],
      'images',
      ['name', 'version'],
      (c) => c.onDelete('cascade'),
    )
    .execute()
  await db.schema
    .createIndex('image_signatures_publisher')
    .on('image_signatures')
    .column('publisher')
    .execute()
}
