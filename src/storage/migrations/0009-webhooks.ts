import { type Kysely, sql } from 'kysely'

/** Webhooks, and the events that are on their way to them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('webhooks')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('name', 'text', (c) => c.notNull().unique())
    .addColumn('url', 'text', (c) => c.notNull())
    .addColumn('kinds', 'text', (c) => c.notNull())
    .addColumn('node', 'text')
    .addColumn('ca', 'text')
    .addColumn('secret', 'text', (c) => c.notNull())
    .addColumn('previous_secret', 'text')
    .addColumn('previous_until', 'text')
    .addColumn('disabled', 'text', (c) => c.check(sql`disabled in ('operator', 'gone')`))
    .addColumn('cursor', 'bigint', (c) => c.notNull())
    .addColumn('paused_until', 'text')
    .addColumn('failures', 'integer', (c) => c.notNull())
    .addColumn('failing_since', 'text')
    .addColumn('revision', 'integer', (c) => c.notNull())
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('created_by', 'text', (c) => c.notNull())
    .addColumn('updated_at', 'text', (c) => c.notNull())
    .addCheckConstraint('webhooks_previous', sql`(previous_secret is null) = (previous_until is null)`)
    .execute()
  await db.schema
    .createTable('webhook_deliveries')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('webhook', 'text', (c) => c.notNull().references('webhooks.id').onDelete('cascade'))
    // No reference: the log may be trimmed while its last events are on their way.
    .addColumn('event', 'bigint', (c) => c.notNull())
    .addColumn('kind', 'text', (c) => c.notNull())
    .addColumn('node', 'text')
    .addColumn('body', 'text', (c) => c.notNull())
    .addColumn('state', 'text', (c) => c.notNull().check(sql`state in ('waiting', 'delivered', 'dead')`))
    .addColumn('tries', 'integer', (c) => c.notNull())
    .addColumn('next_at', 'text')
    .addColumn('result', 'text')
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('tried_at', 'text')
    .addColumn('ended_at', 'text')
    .addCheckConstraint('webhook_deliveries_waiting', sql`(state = 'waiting') = (next_at is not null)`)
    .addCheckConstraint('webhook_deliveries_ended', sql`(state = 'waiting') = (ended_at is null)`)
    .execute()
  await db.schema
    .createIndex('webhook_deliveries_due')
    .on('webhook_deliveries')
    .columns(['webhook', 'state', 'next_at'])
    .execute()
  await db.schema
    .createIndex('webhook_deliveries_ended_at')
    .on('webhook_deliveries')
    .columns(['webhook', 'state', 'ended_at'])
    .execute()
}

/** Back to the release before: what was on its way is not sent any more. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable('webhook_deliveries').execute()
  await db.schema.dropTable('webhooks').execute()
}
