import type { Kysely } from 'kysely'

/**
 * The public key of each node's tunnel, beside its event: events may be forgotten. And used proofs by their end, so that those of keys
 * that ask no more are found. Nodes come first, as in every transaction that uses a proof: the other way round could be a deadlock.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('nodes').addColumn('wireguard_public_key', 'text').execute()
  await db.schema.createIndex('identity_proofs_end').on('identity_proofs').column('ends_at').execute()
}

/** The release before has the key in the event alone, and forgets the proofs of a key when that asks again. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('nodes').dropColumn('wireguard_public_key').execute()
  await db.schema.dropIndex('identity_proofs_end').execute()
}
