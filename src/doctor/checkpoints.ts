import { lastCopy } from '../checkpoint-copies.ts'
import { appliedMigrations, knownMigrations } from '../storage/migrate.ts'
import { type Finding, ok, type Subject } from './finding.ts'

/** Whether the database has what `checkpointDir` says of it: one that was set back has not. A fault is thrown. */
export async function checkpoints({ storage, config }: Subject): Promise<Finding[]> {
  const { checkpointDir: folder } = config
  if (storage === undefined || folder === undefined) return []
  const applied = await appliedMigrations(storage.db as never)
  if (applied.join() !== knownMigrations.join()) return [] // told already
  const last = await lastCopy(storage.db, folder)
  const found = last === 0 ? `${folder} has none yet` : `the database has checkpoint ${last} of ${folder}`
  return [ok('checkpoints', found)]
}
