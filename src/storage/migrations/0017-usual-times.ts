import { type Kysely, sql } from 'kysely'

/** How long stages take as a rule, what it is learned from, how boots under way come along, and which nodes loop. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('boot_times')
    .addColumn('session', 'text', (c) => c.primaryKey())
    .addColumn('profile', 'text', (c) => c.notNull())
    .addColumn('sequence', 'text', (c) => c.notNull())
    .addColumn('node', 'text', (c) => c.notNull())
    .addColumn('event', 'bigint', (c) => c.notNull())
    .addColumn('stage1', 'double precision')
    .addColumn('stage2', 'double precision')
    .addColumn('stage3', 'double precision')
    .addColumn('join', 'double precision')
    .execute()
  await db.schema
    .createIndex('boot_times_profile')
    .on('boot_times')
    .columns(['profile', 'sequence', 'event'])
    .execute()
  await db.schema
    .createTable('usual_times')
    .addColumn('profile', 'text', (c) => c.notNull())
    .addColumn('sequence', 'text', (c) => c.notNull())
    .addColumn('stage', 'text', (c) => c.notNull())
    .addColumn('median_seconds', 'double precision', (c) => c.notNull())
    .addColumn('p99_seconds', 'double precision', (c) => c.notNull())
    .addColumn('boots', 'integer', (c) => c.notNull())
    .addColumn('learned_at', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('usual_times_key', ['profile', 'sequence', 'stage'])
    .execute()
  await db.schema
    .createTable('boot_times_read')
    .addColumn('id', 'integer', (c) => c.primaryKey().check(sql`id = 1`))
    .addColumn('event', 'bigint', (c) => c.notNull())
    .execute()
  await db.schema
    .createTable('session_paces')
    .addColumn('session', 'text', (c) => c.notNull().references('sessions.id').onDelete('cascade'))
    .addColumn('stage', 'text', (c) => c.notNull())
    .addColumn('pace', 'text', (c) => c.notNull().check(sql`pace in ('usual', 'slow', 'stuck')`))
    .addColumn('code', 'text', (c) => c.notNull())
    .addColumn('slow_at', 'text')
    .addColumn('stuck_at', 'text')
    .addPrimaryKeyConstraint('session_paces_key', ['session', 'stage'])
    .execute()
  for (const column of nodeColumns) await db.schema.alterTable('nodes').addColumn(column, 'text').execute()
}

/** The release before knows no pace, and limits stage 1s by the hour only. */
export async function down(db: Kysely<unknown>): Promise<void> {
  for (const column of nodeColumns) await db.schema.alterTable('nodes').dropColumn(column).execute()
  for (const table of ['session_paces', 'boot_times_read', 'usual_times', 'boot_times'])
    await db.schema.dropTable(table).execute()
}

const nodeColumns = ['looping_since', 'held_back_until', 'boots_counted_from']
