import { type Kysely, sql } from 'kysely'

/**
 * Enrolment secrets as rows: kind, lifetime, use and end of each. The node's own columns go on saying which is current, for
 * replicas of the release before that serve beside this one.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('node_secrets')
    .addColumn('id', 'text', (c) => c.notNull())
    .addColumn('node', 'text', (c) => c.notNull().references('nodes.id').onDelete('cascade'))
    .addColumn('secret_hash', 'text', (c) => c.notNull())
    .addColumn('kind', 'text', (c) => c.notNull().check(sql`kind in ('static', 'rotating')`))
    .addColumn('issued_at', 'text', (c) => c.notNull())
    .addColumn('issued_by', 'text', (c) => c.notNull())
    .addColumn('replaces', 'text')
    .addColumn('session', 'text')
    .addColumn('lifetime_seconds', 'integer', (c) => c.check(sql`lifetime_seconds > 0`))
    .addColumn('expires_at', 'text')
    .addColumn('written_at', 'text')
    .addColumn('fault', 'text')
    .addColumn('warned_at', 'text')
    .addColumn('last_used_at', 'text')
    .addColumn('last_used_from', 'text')
    .addColumn('ended', 'text', (c) => c.check(sql`ended in ('replaced', 'rotated-out', 'revoked')`))
    .addColumn('ended_at', 'text')
    .addPrimaryKeyConstraint('node_secrets_key', ['node', 'id'])
    .addCheckConstraint('node_secrets_hash', sql`length(secret_hash) = 64`)
    .addCheckConstraint('node_secrets_rotated', sql`(replaces is null) = (session is null)`)
    .addCheckConstraint('node_secrets_lifetime', sql`(lifetime_seconds is null) = (expires_at is null)`)
    .addCheckConstraint('node_secrets_used', sql`(last_used_at is null) = (last_used_from is null)`)
    .addCheckConstraint('node_secrets_ended', sql`(ended is null) = (ended_at is null)`)
    .execute()
  await db.schema.createIndex('node_secrets_id').on('node_secrets').column('id').execute()
  await db.schema.createIndex('node_secrets_expires').on('node_secrets').column('expires_at').execute()
  await sql`insert into node_secrets (id, node, secret_hash, kind, issued_at, issued_by)
    select secret_id, id, secret_hash, 'static',
      coalesce((select max(at) from events where kind = 'secret-issued' and node = nodes.name), updated_at),
      'operator:before'
    from nodes where secret_id is not null`.execute(db)
}

/**
 * The release before has one secret for each node, that never ends. One that has expired is taken away. Where a node has said
 * that the next one is on its medium, that is the one: the old one was overwritten.
 */
export async function down(db: Kysely<unknown>): Promise<void> {
  const now = isPostgres(db)
    ? sql`to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
    : sql`strftime('%Y-%m-%dT%H:%M:%fZ', 'now')`
  await sql`update nodes set secret_id = null, secret_hash = null where exists
    (select 1 from node_secrets s where s.node = nodes.id and s.id = nodes.secret_id and s.expires_at <= ${now})`.execute(
    db,
  )
  const written = sql`from node_secrets s where s.node = nodes.id and s.replaces = nodes.secret_id
    and s.written_at is not null and s.ended is null and (s.expires_at is null or s.expires_at > ${now})
    order by s.written_at desc, s.id limit 1`
  await sql`update nodes set (secret_id, secret_hash) = (select s.id, s.secret_hash ${written})
    where exists (select 1 ${written})`.execute(db)
  await db.schema.dropTable('node_secrets').execute()
}

function isPostgres(db: Kysely<unknown>): boolean {
  return db.getExecutor().adapter.supportsMultipleConnections === true
}
