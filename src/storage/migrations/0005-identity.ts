import { type Kysely, sql } from 'kysely'

/**
 * When and from where operator tokens are used, people who sign in through a provider, their sessions in browsers, the
 * command lines that wait for them, and client certificates of machines.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await createPeople(db)
  for (const column of ['last_used_at', 'last_used_from', 'person'])
    await db.schema.alterTable('operators').addColumn(column, 'text').execute()
  await db.schema
    .createTable('operator_certificates')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('fingerprint', 'text', (c) => c.notNull().unique())
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('role', 'text', (c) => c.notNull().check(roles))
    .addColumn('scope', 'text')
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('created_by', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'text', (c) => c.notNull())
    .addColumn('revoked_at', 'text')
    .addColumn('last_used_at', 'text')
    .addColumn('last_used_from', 'text')
    .addCheckConstraint('operator_certificates_fingerprint', sql`length(fingerprint) = 64`)
    .execute()
}

const roles = sql`role in ('viewer', 'operator', 'publisher', 'admin')`

async function createPeople(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('people')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('issuer', 'text', (c) => c.notNull())
    .addColumn('subject', 'text', (c) => c.notNull())
    // One name is one person: the log tells people apart by it.
    .addColumn('name', 'text', (c) => c.notNull().unique())
    .addColumn('first_seen_at', 'text', (c) => c.notNull())
    .addColumn('last_seen_at', 'text', (c) => c.notNull())
    .addUniqueConstraint('people_subject', ['issuer', 'subject'])
    .execute()
  await db.schema
    .createTable('operator_sessions')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('secret_hash', 'text', (c) => c.notNull())
    .addColumn('person', 'text', (c) => c.notNull().references('people.id').onDelete('cascade'))
    .addColumn('role', 'text', (c) => c.notNull().check(roles))
    .addColumn('source', 'text', (c) => c.notNull())
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('last_seen_at', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'text', (c) => c.notNull())
    .addCheckConstraint('operator_sessions_hash', sql`length(secret_hash) = 64`)
    .execute()
  await db.schema.createIndex('operator_sessions_person').on('operator_sessions').column('person').execute()
  await db.schema
    .createTable('login_requests')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('secret_hash', 'text', (c) => c.notNull())
    .addColumn('code', 'text', (c) => c.notNull().unique())
    .addColumn('label', 'text', (c) => c.notNull())
    .addColumn('source', 'text', (c) => c.notNull())
    /** The unit that requests are counted by: an IPv4 address or an IPv6 /64. */
    .addColumn('source_unit', 'text', (c) => c.notNull())
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'text', (c) => c.notNull())
    .addColumn('polled_at', 'text')
    .addColumn('state', 'text', (c) => c.notNull().check(sql`state in ('waiting', 'approved', 'denied')`))
    .addColumn('person', 'text', (c) => c.references('people.id').onDelete('cascade'))
    .addColumn('role', 'text', (c) => c.check(sql`role is null or ${roles}`))
    .addCheckConstraint(
      'login_requests_approved',
      sql`(state = 'approved') = (person is not null) and (state = 'approved') = (role is not null)`,
    )
    .execute()
}

/** Back to the release before: whoever signed in signs in no more, tokens stay but for those of people. */
export async function down(db: Kysely<unknown>): Promise<void> {
  // The release before does not know whose they are, nor that they end with the provider.
  await sql`delete from operators where person is not null`.execute(db)
  await db.schema.dropTable('operator_certificates').execute()
  await db.schema.dropTable('login_requests').execute()
  await db.schema.dropTable('operator_sessions').execute()
  await db.schema.dropTable('people').execute()
  for (const column of ['last_used_at', 'last_used_from', 'person'])
    await db.schema.alterTable('operators').dropColumn(column).execute()
}
