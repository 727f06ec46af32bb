import { type Kysely, sql } from 'kysely'
import type { Tables } from '../tables.ts'

/**
 * Channels with their history, changes that wait for a second person, rollouts, tests of images, which image holds which
 * artifact, and the scope of publishers' tokens.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('operators').addColumn('scope', 'text').execute()
  await createArtifacts(db)
  await createChannels(db)
  await createRollouts(db)
}

async function createArtifacts(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('image_artifacts')
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('version', 'text', (c) => c.notNull())
    .addColumn('role', 'text', (c) => c.notNull())
    .addColumn('digest', 'text', (c) => c.notNull())
    .addColumn('size', 'bigint', (c) => c.notNull())
    .addPrimaryKeyConstraint('image_artifacts_key', ['name', 'version', 'role'])
    .addForeignKeyConstraint(
      'image_artifacts_image',
      ['name', 'version'],
      'images',
      ['name', 'version'],
      (c) => c.onDelete('cascade'),
    )
    .execute()
  await db.schema.createIndex('image_artifacts_digest').on('image_artifacts').column('digest').execute()
  await nameArtifactsOfBefore(db as Kysely<Tables>)
  await db.schema
    .createTable('artifact_removals')
    .addColumn('digest', 'text', (c) => c.primaryKey())
    .addColumn('started_at', 'text', (c) => c.notNull())
    .addColumn('removed_at', 'text')
    .execute()
  await db.schema
    .createTable('pruned_images')
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('version', 'text', (c) => c.notNull())
    .addColumn('digest', 'text', (c) => c.notNull())
    .addColumn('pruned_at', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('pruned_images_key', ['name', 'version'])
    .execute()
  await db.schema
    .createTable('image_tests')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('version', 'text', (c) => c.notNull())
    .addColumn('passed', 'integer', (c) => c.notNull().check(sql`passed in (0, 1)`))
    .addColumn('detail', 'text', (c) => c.notNull())
    .addColumn('tested_by', 'text', (c) => c.notNull())
    .addColumn('tested_at', 'text', (c) => c.notNull())
    .addForeignKeyConstraint('image_tests_image', ['name', 'version'], 'images', ['name', 'version'], (c) =>
      c.onDelete('cascade'),
    )
    .execute()
}

/** Images published before this table was there. */
async function nameArtifactsOfBefore(db: Kysely<Tables>): Promise<void> {
  for (const { name, version, manifest } of await db
    .selectFrom('images')
    .select(['name', 'version', 'manifest'])
    .execute()) {
    const { artifacts } = JSON.parse(manifest) as {
      artifacts: { role: string; digest: string; size: number }[]
    }
    const rows = artifacts.map(({ role, digest, size }) => ({ name, version, role, digest, size }))
    await db.insertInto('image_artifacts').values(rows).execute()
  }
}

async function createChannels(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('channels')
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('channel', 'text', (c) => c.notNull())
    .addColumn('version', 'text')
    .addColumn('two_person', 'integer', (c) => c.notNull().check(sql`two_person in (0, 1)`))
    .addColumn('require_test', 'integer', (c) => c.notNull().check(sql`require_test in (0, 1)`))
    .addColumn('updated_at', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('channels_key', ['name', 'channel'])
    // Without "on delete": an image that a channel points at cannot be removed.
    .addForeignKeyConstraint('channels_image', ['name', 'version'], 'images', ['name', 'version'])
    .execute()
  await db.schema
    .createTable('channel_moves')
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('channel', 'text', (c) => c.notNull())
    .addColumn('seq', 'integer', (c) => c.notNull())
    .addColumn('version', 'text', (c) => c.notNull())
    .addColumn('before', 'text')
    .addColumn('how', 'text', (c) => c.notNull().check(sql`how in ('set', 'rollback', 'rollout')`))
    .addColumn('why', 'text')
    .addColumn('moved_by', 'text', (c) => c.notNull())
    .addColumn('approved_by', 'text')
    .addColumn('moved_at', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('channel_moves_key', ['name', 'channel', 'seq'])
    .addForeignKeyConstraint('channel_moves_channel', ['name', 'channel'], 'channels', ['name', 'channel'])
    .execute()
  await db.schema
    .createTable('proposals')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('kind', 'text', (c) =>
      c.notNull().check(sql`kind in ('image', 'channel', 'publisher', 'rollout')`),
    )
    .addColumn('subject', 'text', (c) => c.notNull())
    .addColumn('document', 'text', (c) => c.notNull())
    .addColumn('why', 'text')
    .addColumn('state', 'text', (c) =>
      c.notNull().check(sql`state in ('waiting', 'approved', 'rejected', 'expired')`),
    )
    .addColumn('proposed_by', 'text', (c) => c.notNull())
    .addColumn('proposed_at', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'text', (c) => c.notNull())
    .addColumn('decided_by', 'text')
    .addColumn('decided_at', 'text')
    .addCheckConstraint('proposals_decided', sql`(state = 'waiting') = (decided_at is null)`)
    // A second person is another person.
    .addCheckConstraint('proposals_second', sql`state <> 'approved' or decided_by <> proposed_by`)
    .execute()
}

async function createRollouts(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('rollouts')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('channel', 'text', (c) => c.notNull())
    .addColumn('version', 'text', (c) => c.notNull())
    .addColumn('before', 'text', (c) => c.notNull())
    .addColumn('plan', 'text', (c) => c.notNull())
    .addColumn('state', 'text', (c) =>
      c.notNull().check(sql`state in ('running', 'paused', 'halted', 'aborted', 'completed')`),
    )
    .addColumn('wave', 'integer', (c) => c.notNull().check(sql`wave >= 1`))
    .addColumn('wave_started_at', 'text', (c) => c.notNull())
    .addColumn('cause', 'text')
    .addColumn('why', 'text')
    .addColumn('started_by', 'text', (c) => c.notNull())
    .addColumn('approved_by', 'text')
    .addColumn('started_at', 'text', (c) => c.notNull())
    .addColumn('ended_at', 'text')
    .addForeignKeyConstraint('rollouts_channel', ['name', 'channel'], 'channels', ['name', 'channel'])
    .addCheckConstraint('rollouts_ended', sql`(state in ('running', 'paused')) = (ended_at is null)`)
    .execute()
  // One at a time: two rollouts of one channel would each judge the other's boots.
  await db.schema
    .createIndex('rollouts_live')
    .unique()
    .on('rollouts')
    .columns(['name', 'channel'])
    .where(sql.ref('ended_at'), 'is', null)
    .execute()
  await db.schema
    .createTable('rollout_nodes')
    .addColumn('rollout', 'text', (c) => c.notNull().references('rollouts.id').onDelete('cascade'))
    .addColumn('node', 'text', (c) => c.notNull().references('nodes.id').onDelete('cascade'))
    .addColumn('wave', 'integer', (c) => c.notNull())
    .addColumn('state', 'text', (c) =>
      c.notNull().check(sql`state in ('waiting', 'booting', 'succeeded', 'failed')`),
    )
    .addColumn('session', 'text')
    .addColumn('repeats', 'integer', (c) => c.notNull())
    .addPrimaryKeyConstraint('rollout_nodes_key', ['rollout', 'node'])
    .execute()
}
