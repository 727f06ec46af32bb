import { type Kysely, sql } from 'kysely'
import { isPostgres } from '../commit-order.ts'

/**
 * Indexes that boots wrote and nothing needs: an index is written at a place of its own for each node, so that few boots share a page of it.
 *
 * - Events of a node are found by their chain, which has an index already.
 * - Who came by a root is asked when roots are looked at, and then of nearly all nodes. On PostgreSQL the row of a node that boots again is
 *   now written without any index.
 * - When a session ended is asked of those that have ended.
 *
 * On PostgreSQL the release before serves meanwhile: it asks for a node's events by name, among a million of them, and its index stays. The
 * third is left there too: to make it anew would keep sessions from being written.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.dropIndex('node_roots_root').execute()
  if (isPostgres(db)) return
  await db.schema.dropIndex('events_node').execute()
  await db.schema.dropIndex('sessions_ended_at').execute()
  await db.schema
    .createIndex('sessions_ended_at')
    .on('sessions')
    .column('ended_at')
    .where(sql.ref('ended_at'), 'is not', null)
    .execute()
}

/** As the release before has them. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.createIndex('node_roots_root').on('node_roots').columns(['root', 'last_at']).execute()
  if (isPostgres(db)) return
  await db.schema.createIndex('events_node').on('events').columns(['node', 'id']).execute()
  await db.schema.dropIndex('sessions_ended_at').execute()
  await db.schema.createIndex('sessions_ended_at').on('sessions').column('ended_at').execute()
}
