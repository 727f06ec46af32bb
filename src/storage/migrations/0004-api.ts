import type { Kysely } from 'kysely'

/**
 * What an operator's change can be made to depend on: a number that each change by an operator counts up. And the first
 * answers to requests that may come twice.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const table of ['nodes', 'channels'])
    await db.schema
      .alterTable(table)
      .addColumn('revision', 'integer', (c) => c.notNull().defaultTo(1))
      .execute()
  await db.schema
    .createTable('idempotent_answers')
    .addColumn('actor', 'text', (c) => c.notNull())
    .addColumn('key_hash', 'text', (c) => c.notNull())
    .addColumn('request', 'text', (c) => c.notNull())
    .addColumn('answer', 'text')
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('idempotent_answers_key', ['actor', 'key_hash'])
    .execute()
  await db.schema
    .createIndex('idempotent_answers_age')
    .on('idempotent_answers')
    .columns(['actor', 'created_at'])
    .execute()
}

/** Back to the release before, which knows none of this. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable('idempotent_answers').execute()
  for (const table of ['nodes', 'channels'])
    await db.schema.alterTable(table).dropColumn('revision').execute()
}
