import { type CreateTableBuilder, type Kysely, sql } from 'kysely'
import { nodeTransitions, reinstallTransitions, sessionTransitions } from '../../domain/state.ts'
import { tokenKinds } from '../../domain/token.ts'

/** The first schema. CHECK constraints make rows that the state tables do not know impossible to store. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await createFleet(db)
  await createSessions(db)
  await createEvents(db)
}

async function createFleet(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('profiles')
    .addColumn('name', 'text', (c) => c.primaryKey())
    .addColumn('document', 'text', (c) => c.notNull())
    .addColumn('revision', 'integer', (c) => c.notNull())
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('updated_at', 'text', (c) => c.notNull())
    .execute()
  const nodes = db.schema
    .createTable('nodes')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('name', 'text', (c) => c.notNull().unique())
    .addColumn('profile', 'text', (c) => c.references('profiles.name'))
    .addColumn('state', 'text', (c) => c.notNull())
    .addColumn('failure_cause', 'text')
    .addColumn('uuid', 'text', (c) => c.unique())
    .addColumn('serial', 'text')
    .addColumn('labels', 'text', (c) => c.notNull())
    .addColumn('reinstall', 'text', (c) => c.notNull())
    .addColumn('reinstall_attempts', 'integer', (c) => c.notNull())
    .addColumn('reinstall_session', 'text')
    .addColumn('armed', 'integer', (c) => c.notNull())
    .addColumn('secret_id', 'text')
    .addColumn('secret_hash', 'text')
    .addColumn('last_facts', 'text')
    .addColumn('session', 'text')
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('updated_at', 'text', (c) => c.notNull())
  await oneOf(
    oneOf(nodes, 'state', Object.keys(nodeTransitions)),
    'reinstall',
    Object.keys(reinstallTransitions),
  )
    .addCheckConstraint('nodes_failure', sql`(state = 'failed') = (failure_cause is not null)`)
    .addCheckConstraint('nodes_serving', sql`(reinstall = 'serving') = (reinstall_session is not null)`)
    .addCheckConstraint('nodes_secret', sql`(secret_id is null) = (secret_hash is null)`)
    .addCheckConstraint('nodes_armed', sql`armed in (0, 1)`)
    .addCheckConstraint('nodes_attempts', sql`reinstall_attempts >= 0`)
    .execute()
  await db.schema
    .createTable('node_addresses')
    .addColumn('node', 'text', (c) => c.notNull().references('nodes.id').onDelete('cascade'))
    .addColumn('address', 'text', (c) => c.notNull())
    .addColumn('prefix_length', 'integer', (c) => c.notNull())
    .addPrimaryKeyConstraint('node_addresses_key', ['node', 'address', 'prefix_length'])
    .addCheckConstraint('node_addresses_prefix', sql`prefix_length between 0 and 128`)
    .execute()
  await db.schema.createIndex('node_addresses_address').on('node_addresses').column('address').execute()
  await db.schema
    .createTable('node_macs')
    .addColumn('mac', 'text', (c) => c.primaryKey())
    .addColumn('node', 'text', (c) => c.notNull().references('nodes.id').onDelete('cascade'))
    .execute()
  await db.schema.createIndex('node_macs_node').on('node_macs').column('node').execute()
  await db.schema.createIndex('nodes_serial').on('nodes').column('serial').execute()
  await db.schema
    .createTable('images')
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('version', 'text', (c) => c.notNull())
    .addColumn('manifest', 'text', (c) => c.notNull())
    .addColumn('digest', 'text', (c) => c.notNull())
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('created_by', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('images_key', ['name', 'version'])
    .execute()
  const operators = db.schema
    .createTable('operators')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('role', 'text', (c) => c.notNull())
    .addColumn('secret_hash', 'text', (c) => c.notNull())
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'text')
    .addColumn('revoked_at', 'text')
  await oneOf(operators, 'role', ['viewer', 'operator', 'publisher', 'admin']).execute()
  await db.schema
    .createTable('pending_machines')
    .addColumn('code', 'text', (c) => c.primaryKey())
    .addColumn('fingerprint', 'text', (c) => c.notNull().unique())
    .addColumn('facts', 'text', (c) => c.notNull())
    .addColumn('source', 'text', (c) => c.notNull())
    .addColumn('first_seen_at', 'text', (c) => c.notNull())
    .addColumn('last_seen_at', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'text', (c) => c.notNull())
    .addColumn('rejected', 'integer', (c) => c.notNull())
    .execute()
}

async function createSessions(db: Kysely<unknown>): Promise<void> {
  const sessions = db.schema
    .createTable('sessions')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('node', 'text', (c) => c.notNull().references('nodes.id').onDelete('cascade'))
    .addColumn('sequence', 'text', (c) => c.notNull())
    .addColumn('tokens', 'text', (c) => c.notNull())
    .addColumn('local', 'integer', (c) => c.notNull())
    .addColumn('state', 'text', (c) => c.notNull())
    .addColumn('stage', 'text', (c) => c.notNull())
    .addColumn('cause', 'text')
    .addColumn('pinned', 'text', (c) => c.notNull())
    .addColumn('facts', 'text', (c) => c.notNull())
    .addColumn('source', 'text', (c) => c.notNull())
    .addColumn('started_at', 'text', (c) => c.notNull())
    .addColumn('last_seen_at', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'text', (c) => c.notNull())
    .addColumn('ended_at', 'text')
  const stages = ['stage1', 'stage2', 'stage3', 'join', 'report']
  await oneOf(oneOf(sessions, 'state', Object.keys(sessionTransitions)), 'stage', stages)
    .addCheckConstraint('sessions_sequence', sql`sequence in ('boot', 'reinstall')`)
    .addCheckConstraint('sessions_tokens', sql`tokens in ('native', 'epoxy')`)
    .addCheckConstraint(
      'sessions_ended',
      sql`(state in (${sql.raw(quoted(endStates))})) = (ended_at is not null)`,
    )
    .addCheckConstraint(
      'sessions_local',
      sql`local = 0 or (local = 1 and state = 'ready' and stage = 'stage1')`,
    )
    .execute()
  await db.schema.createIndex('sessions_node').on('sessions').columns(['node', 'started_at']).execute()
  // One live session a node, whatever the code above does (supersession retires the old one in the same transaction).
  await sql`create unique index sessions_live on sessions (node) where ended_at is null`.execute(db)
  const sessionStages = db.schema
    .createTable('session_stages')
    .addColumn('session', 'text', (c) => c.notNull().references('sessions.id').onDelete('cascade'))
    .addColumn('stage', 'text', (c) => c.notNull())
    .addColumn('opened_at', 'text', (c) => c.notNull())
    .addColumn('bytes', 'bigint', (c) => c.notNull())
    .addPrimaryKeyConstraint('session_stages_key', ['session', 'stage'])
  await oneOf(sessionStages, 'stage', stages).execute()
  const tokens = db.schema
    .createTable('tokens')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('session', 'text', (c) => c.notNull().references('sessions.id').onDelete('cascade'))
    .addColumn('kind', 'text', (c) => c.notNull())
    .addColumn('secret_hash', 'text', (c) => c.notNull())
    .addColumn('issued_at', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'text', (c) => c.notNull())
    .addColumn('consumed_at', 'text')
    .addColumn('retired_at', 'text')
    .addColumn('answer', 'text')
  await oneOf(tokens, 'kind', tokenKinds)
    .addUniqueConstraint('tokens_one_of_a_kind', ['session', 'kind'])
    .addCheckConstraint('tokens_hash', sql`length(secret_hash) = 64`)
    .addCheckConstraint('tokens_answer', sql`answer is null or consumed_at is not null`)
    .addCheckConstraint('tokens_capability', sql`kind not like 'download-%' or consumed_at is null`)
    .execute()
}

async function createEvents(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('chains')
    .addColumn('name', 'text', (c) => c.primaryKey())
    .addColumn('base_seq', 'integer', (c) => c.notNull())
    .addColumn('base_hash', 'text', (c) => c.notNull())
    .addColumn('head_seq', 'integer', (c) => c.notNull())
    .addColumn('head_hash', 'text', (c) => c.notNull())
    .addCheckConstraint('chains_order', sql`0 <= base_seq and base_seq <= head_seq`)
    .execute()
  await db.schema
    .createTable('events')
    .$call(withSerialId)
    .addColumn('chain', 'text', (c) => c.notNull())
    .addColumn('seq', 'integer', (c) => c.notNull())
    .addColumn('at', 'text', (c) => c.notNull())
    .addColumn('kind', 'text', (c) => c.notNull())
    .addColumn('node', 'text')
    .addColumn('session', 'text')
    .addColumn('actor', 'text', (c) => c.notNull())
    .addColumn('source', 'text')
    .addColumn('detail', 'text', (c) => c.notNull())
    .addColumn('prev_hash', 'text', (c) => c.notNull())
    .addColumn('hash', 'text', (c) => c.notNull())
    .addUniqueConstraint('events_chain_seq', ['chain', 'seq'])
    .execute()
  await db.schema.createIndex('events_node').on('events').columns(['node', 'id']).execute()
  await db.schema.createIndex('events_session').on('events').columns(['session', 'id']).execute()
  await db.schema.createIndex('events_at').on('events').column('at').execute()

  function withSerialId<N extends string>(table: CreateTableBuilder<N, never>): CreateTableBuilder<N, 'id'> {
    return isPostgres(db)
      ? table.addColumn('id', 'bigint', (c) => c.primaryKey().generatedAlwaysAsIdentity())
      : table.addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
  }
}

const endStates = ['ready', 'failed', 'expired', 'superseded']

function oneOf<N extends string, C extends string>(
  table: CreateTableBuilder<N, C>,
  column: C,
  values: readonly string[],
): CreateTableBuilder<N, C> {
  return table.addCheckConstraint(`check_${column}`, sql`${sql.ref(column)} in (${sql.raw(quoted(values))})`)
}

/** SQL text of constants from our own tables; they hold letters, digits and hyphens only. */
function quoted(values: readonly string[]): string {
  return values.map((value) => `'${value}'`).join(', ')
}

function isPostgres(db: Kysely<unknown>): boolean {
  return db.getExecutor().adapter.supportsMultipleConnections === true
}
