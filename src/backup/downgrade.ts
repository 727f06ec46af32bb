import { join } from 'node:path'
import type { Config } from '../config.ts'
import { PawlError } from '../errors.ts'
import { checkDataFolder } from '../pki/data-folder.ts'
import { type DowngradePlan, downgradeDatabase } from '../storage/downgrade.ts'
import { releases } from '../storage/migrate.ts'
import { type BackupOptions, makeBackup } from './make.ts'

/** How far back, and whether it is done or only told. */
export interface DowngradeOptions extends Pick<BackupOptions, 'version' | 'now' | 'processId' | 'isAlive'> {
  readonly config: Config
  readonly release: string
  readonly apply: boolean
}

/** What was done, or would be. */
export interface Downgraded extends DowngradePlan {
  readonly release: string
  readonly applied: boolean
  /** The file with everything as it was before. */
  readonly backup: string | null
}

/** Takes the database back to an older release, behind a backup of it. */
export async function downgrade(options: DowngradeOptions): Promise<Downgraded> {
  const { config, release, now } = options
  checkDataFolder(config.dataDir)
  const target = Object.hasOwn(releases, release) ? releases[release] : undefined
  if (target === undefined) {
    throw new PawlError('usage', `${JSON.stringify(release)} is no release that this Pawl can go back to`, {
      hint: `it can go back to ${Object.keys(releases).join(', ')}`,
    })
  }
  const plan = await downgradeDatabase(config.database, target, { apply: false, release, now })
  if (!options.apply || plan.undone.length === 0) return { ...plan, release, applied: false, backup: null }
  const stamp = now.toISOString().replace(/[-:]|\.\d+/g, '')
  const backup = join(config.dataDir, `downgrade-${stamp}.tar`)
  await makeBackup({ ...options, withArtifacts: false, to: backup })
  const done = await downgradeDatabase(config.database, target, { apply: true, release, now })
  return { ...done, release, applied: true, backup }
}
