import type { Kysely } from 'kysely'

/** Signed checkpoints of the event log, the keys that signed them, and where each chain was when one was signed. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('checkpoint_keys')
    .addColumn('kid', 'text', (c) => c.primaryKey())
    .addColumn('jwk', 'text', (c) => c.notNull())
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('retired_at', 'text')
    .execute()
  await db.schema
    .createTable('checkpoints')
    .addColumn('seq', 'integer', (c) => c.primaryKey())
    .addColumn('jws', 'text', (c) => c.notNull())
    .addColumn('digest', 'text', (c) => c.notNull())
    .addColumn('at', 'text', (c) => c.notNull())
    .addColumn('kid', 'text', (c) => c.notNull().references('checkpoint_keys.kid'))
    .addColumn('chains', 'integer', (c) => c.notNull())
    .addColumn('events', 'bigint', (c) => c.notNull())
    .execute()
  // Only the chains that moved since the checkpoint before: in a fleet of ten thousand nodes few do in one hour.
  await db.schema
    .createTable('checkpoint_heads')
    .addColumn('chain', 'text', (c) => c.notNull())
    .addColumn('checkpoint', 'integer', (c) => c.notNull().references('checkpoints.seq'))
    .addColumn('base_seq', 'integer', (c) => c.notNull())
    .addColumn('seq', 'integer', (c) => c.notNull())
    .addColumn('hash', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('checkpoint_heads_key', ['chain', 'checkpoint'])
    .execute()
}

/** The server of before goes on with the events alone. */
export async function down(db: Kysely<unknown>): Promise<void> {
  for (const table of ['checkpoint_heads', 'checkpoints', 'checkpoint_keys'])
    await db.schema.dropTable(table).execute()
}
