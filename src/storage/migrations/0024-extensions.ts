import type { Kysely } from 'kysely'
import { tokenKinds } from '../../domain/token.ts'
import { allowTokenKinds } from '../token-kinds.ts'

/** Services that booting nodes may ask through us, the keys that sign what they are asked, and how often a boot asked. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('extensions')
    .addColumn('operation', 'text', (c) => c.primaryKey())
    .addColumn('url', 'text', (c) => c.notNull())
    .addColumn('timeout_seconds', 'integer', (c) => c.notNull())
    .addColumn('max_answer_bytes', 'integer', (c) => c.notNull())
    .addColumn('answer_types', 'text', (c) => c.notNull())
    .addColumn('ca', 'text')
    .addColumn('client_certificate', 'text')
    .addColumn('client_key', 'text')
    .addColumn('revision', 'integer', (c) => c.notNull())
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('created_by', 'text', (c) => c.notNull())
    .addColumn('updated_at', 'text', (c) => c.notNull())
    .execute()
  await db.schema
    .createTable('extension_calls')
    .addColumn('session', 'text', (c) => c.notNull().references('sessions.id').onDelete('cascade'))
    .addColumn('operation', 'text', (c) => c.notNull())
    .addColumn('count', 'integer', (c) => c.notNull())
    .addPrimaryKeyConstraint('extension_calls_key', ['session', 'operation'])
    .execute()
  await db.schema
    .createTable('extension_keys')
    .addColumn('generation', 'integer', (c) => c.primaryKey())
    .addColumn('kid', 'text', (c) => c.notNull().unique())
    .addColumn('jwk', 'text', (c) => c.notNull())
    .addColumn('sealed', 'text', (c) => c.notNull())
    .addColumn('made_at', 'text', (c) => c.notNull())
    .addColumn('signs_from', 'text', (c) => c.notNull())
    .addColumn('ends_at', 'text')
    .execute()
  await allowTokenKinds(db, tokenKinds)
}

/** Back to the release before: boots that are under way can ask no extension any more, and go on. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await allowTokenKinds(
    db,
    tokenKinds.filter((kind) => kind !== 'extension'),
  )
  await db.schema.dropTable('extension_keys').execute()
  await db.schema.dropTable('extension_calls').execute()
  await db.schema.dropTable('extensions').execute()
}
