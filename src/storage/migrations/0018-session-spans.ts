import { type Kysely, sql } from 'kysely'

/** What happened within each boot session, and the last lines of its consoles. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('session_spans')
    .addColumn('session', 'text', (c) => c.notNull().references('sessions.id').onDelete('cascade'))
    .addColumn('stage', 'text')
    .addColumn('kind', 'text', (c) => c.notNull())
    .addColumn('at', 'text', (c) => c.notNull())
    .addColumn('seconds', 'double precision', (c) => c.notNull())
    .addColumn('bytes', 'bigint')
    .addColumn('detail', 'text')
    .addColumn('agent', 'text')
    .addColumn('tls', 'text')
    .addColumn('told', 'integer', (c) => c.notNull())
    .addColumn('times', 'integer', (c) => c.notNull())
    .addCheckConstraint('session_spans_told', sql`told in (0, 1)`)
    .addCheckConstraint('session_spans_times', sql`times > 0`)
    .execute()
  await db.schema.createIndex('session_spans_session').on('session_spans').column('session').execute()
  await db.schema
    .createTable('session_logs')
    .addColumn('session', 'text', (c) => c.notNull().references('sessions.id').onDelete('cascade'))
    .addColumn('stage', 'text', (c) => c.notNull())
    .addColumn('at', 'text', (c) => c.notNull())
    .addColumn('text', 'text', (c) => c.notNull())
    .addColumn('times', 'integer', (c) => c.notNull())
    .addPrimaryKeyConstraint('session_logs_key', ['session', 'stage'])
    .execute()
  // For retention: the sessions that ended long ago.
  await db.schema.createIndex('sessions_ended_at').on('sessions').column('ended_at').execute()
}

/** The release before knows nothing of them: its boots go on, without their details. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropIndex('sessions_ended_at').execute()
  await db.schema.dropTable('session_logs').execute()
  await db.schema.dropTable('session_spans').execute()
}
