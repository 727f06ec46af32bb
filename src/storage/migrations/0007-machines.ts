import { type Kysely, sql } from 'kysely'

/**
 * Claims of machines that were approved, machines that were turned away for a time, rules that approve by themselves, facts
 * that were refused, marks that run out, and reinstalls of many nodes at a time.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await addPending(db)
  await createClaims(db)
  await createAutoApprovals(db)
  await createCampaigns(db)
}

/** What was waiting, was turned away or is under way in these tables is forgotten; nodes and their marks stay. */
export async function down(db: Kysely<unknown>): Promise<void> {
  const tables = [
    'campaign_nodes',
    'campaigns',
    'reinstall_marks',
    'auto_approval_serials',
    'auto_approvals',
    'refused_facts',
    'rule_approved_nodes',
    'node_claims',
  ]
  for (const table of tables) await db.schema.dropTable(table).execute()
  for (const column of pendingColumns)
    await db.schema.alterTable('pending_machines').dropColumn(column).execute()
}

const pendingColumns = ['machine', 'claim_hash', 'not_by_rule']

async function addPending(db: Kysely<unknown>): Promise<void> {
  for (const column of pendingColumns)
    await db.schema.alterTable('pending_machines').addColumn(column, 'text').execute()
  // What waits now was told apart by facts and source alone.
  await sql`update pending_machines set machine = fingerprint`.execute(db)
}

async function createClaims(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('node_claims')
    .addColumn('node', 'text', (c) => c.primaryKey().references('nodes.id').onDelete('cascade'))
    .addColumn('claim_hash', 'text', (c) => c.notNull())
    .addColumn('machine', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'text', (c) => c.notNull())
    .addCheckConstraint('node_claims_hash', sql`length(claim_hash) = 64 and length(machine) = 64`)
    .execute()
  await db.schema
    .createTable('refused_facts')
    .addColumn('node', 'text', (c) => c.primaryKey().references('nodes.id').onDelete('cascade'))
    .addColumn('facts', 'text', (c) => c.notNull())
    .addColumn('source', 'text', (c) => c.notNull())
    .addColumn('refused_at', 'text', (c) => c.notNull())
    .execute()
  await db.schema
    .createTable('rule_approved_nodes')
    .addColumn('node', 'text', (c) => c.primaryKey().references('nodes.id').onDelete('cascade'))
    .execute()
}

async function createAutoApprovals(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('auto_approvals')
    .addColumn('name', 'text', (c) => c.primaryKey())
    .addColumn('sources', 'text', (c) => c.notNull())
    // No foreign key: a rule that is over must not keep a profile from being removed; one in use is refused then.
    .addColumn('profile', 'text', (c) => c.notNull())
    .addColumn('node_name', 'text', (c) => c.notNull())
    .addColumn('labels', 'text', (c) => c.notNull())
    .addColumn('max_nodes', 'integer', (c) => c.notNull().check(sql`max_nodes >= 1`))
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('created_by', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'text', (c) => c.notNull())
    .addColumn('revoked_at', 'text')
    .addColumn('revoked_by', 'text')
    .addCheckConstraint('auto_approvals_revoked', sql`(revoked_at is null) = (revoked_by is null)`)
    .execute()
  await db.schema
    .createTable('auto_approval_serials')
    .addColumn('rule', 'text', (c) => c.notNull().references('auto_approvals.name').onDelete('cascade'))
    .addColumn('serial', 'text', (c) => c.notNull())
    .addColumn('node', 'text')
    .addColumn('source', 'text')
    .addColumn('used_at', 'text')
    .addPrimaryKeyConstraint('auto_approval_serials_key', ['rule', 'serial'])
    .addCheckConstraint('auto_approval_serials_used', sql`(node is null) = (used_at is null)`)
    .execute()
  await db.schema
    .createIndex('auto_approval_serials_serial')
    .on('auto_approval_serials')
    .column('serial')
    .execute()
}

async function createCampaigns(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('reinstall_marks')
    .addColumn('node', 'text', (c) => c.primaryKey().references('nodes.id').onDelete('cascade'))
    .addColumn('expires_at', 'text', (c) => c.notNull())
    .execute()
  await db.schema
    .createTable('campaigns')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('selection', 'text', (c) => c.notNull())
    .addColumn('state', 'text', (c) =>
      c.notNull().check(sql`state in ('running', 'paused', 'completed', 'cancelled')`),
    )
    .addColumn('max_parallel', 'integer', (c) => c.check(sql`max_parallel >= 1`))
    .addColumn('max_failures', 'integer', (c) => c.check(sql`max_failures >= 1`))
    .addColumn('mark_seconds', 'integer')
    .addColumn('failures', 'integer', (c) => c.notNull())
    .addColumn('cause', 'text')
    .addColumn('started_by', 'text', (c) => c.notNull())
    .addColumn('started_at', 'text', (c) => c.notNull())
    .addColumn('ended_at', 'text')
    .addCheckConstraint('campaigns_ended', sql`(state in ('running', 'paused')) = (ended_at is null)`)
    .execute()
  await db.schema
    .createTable('campaign_nodes')
    .addColumn('campaign', 'text', (c) => c.notNull().references('campaigns.id').onDelete('cascade'))
    .addColumn('node', 'text', (c) => c.notNull().references('nodes.id').onDelete('cascade'))
    .addColumn('position', 'integer', (c) => c.notNull())
    .addColumn('state', 'text', (c) =>
      c
        .notNull()
        .check(
          sql`state in ('waiting', 'active', 'done', 'failed', 'cancelled', 'expired', 'skipped', 'moved')`,
        ),
    )
    .addColumn('cause', 'text')
    .addColumn('changed_at', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('campaign_nodes_key', ['campaign', 'node'])
    .execute()
  // A node is reinstalled for one of them at a time: two would each count the other's mark.
  await db.schema
    .createIndex('campaign_nodes_live')
    .unique()
    .on('campaign_nodes')
    .column('node')
    .where(sql.ref('state'), 'in', ['waiting', 'active'])
    .execute()
  await db.schema
    .createIndex('campaign_nodes_state')
    .on('campaign_nodes')
    .columns(['campaign', 'state', 'position'])
    .execute()
}
