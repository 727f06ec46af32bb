import type { Kysely } from 'kysely'
import { Migrator } from 'kysely/migration'
import { PawlError } from '../errors.ts'
import * as first from './migrations/0001-first.ts'
import * as publishers from './migrations/0002-publishers.ts'
import * as channels from './migrations/0003-channels.ts'

/** Every schema change in order. Small and additive: a server of the version before must go on working. */
const migrations = { '0001-first': first, '0002-publishers': publishers, '0003-channels': channels }

/** Brings the database to the newest schema. Safe to run by several processes at once: Kysely takes a lock. */
export async function migrateToLatest(db: Kysely<unknown>): Promise<void> {
  const migrator = new Migrator({ db, provider: { getMigrations: async () => migrations } })
  const { error } = await migrator.migrateToLatest()
  if (error !== undefined) {
    throw new PawlError('storage-unavailable', 'the database schema cannot be brought up to date', {
      hint: 'look at the log; if it was made by a newer Pawl, run that one',
      cause: error,
    })
  }
}
