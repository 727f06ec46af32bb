import { type Kysely, sql } from 'kysely'

/** Nodes that leave their cluster to be reinstalled: how far each has come, and what it takes to carry on after a kill. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('leavings')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('node', 'text', (c) => c.notNull())
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('profile', 'text', (c) => c.notNull())
    .addColumn('hooks', 'text', (c) => c.notNull())
    .addColumn('state', 'text', (c) => c.notNull())
    .addColumn('passes', 'integer', (c) => c.notNull())
    .addColumn('was_unschedulable', 'integer')
    .addColumn('cordoned', 'integer', (c) => c.notNull())
    .addColumn('marked', 'integer', (c) => c.notNull())
    .addColumn('waits_for', 'text')
    .addColumn('cause', 'text')
    .addColumn('forced', 'integer', (c) => c.notNull())
    .addColumn('started_by', 'text', (c) => c.notNull())
    .addColumn('started_at', 'text', (c) => c.notNull())
    .addColumn('changed_at', 'text', (c) => c.notNull())
    .addColumn('next_at', 'text', (c) => c.notNull())
    .addColumn('deadline', 'text', (c) => c.notNull())
    .addColumn('ended_at', 'text')
    .addCheckConstraint(
      'leavings_state',
      sql`state in ('draining', 'marked', 'rebooting', 'cancelling', 'done', 'failed', 'cancelled')`,
    )
    .addCheckConstraint(
      'leavings_ended',
      sql`(ended_at is not null) = (state in ('done', 'failed', 'cancelled'))`,
    )
    .execute()
  await db.schema.createIndex('leavings_of_node').on('leavings').columns(['node', 'started_at']).execute()
  await sql`create unique index leavings_one_at_a_time on leavings (node) where ended_at is null`.execute(db)
}

/** Back to a release that drains nothing. What is under way stays as it is: its nodes may be unschedulable. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable('leavings').execute()
}
