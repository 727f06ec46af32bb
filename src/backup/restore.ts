import { existsSync } from 'node:fs'
import { copyFile, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Config } from '../config.ts'
import { readSettingsFile } from '../config-file.ts'
import { PawlError } from '../errors.ts'
import { restoringFolder, settingsFile } from '../pki/data-folder.ts'
import { syncFolder } from '../pki/key-file.ts'
import { isPostgresUrl, nameOf } from '../storage/database.ts'
import { verifyChains } from '../storage/events.ts'
import { importRows } from '../storage/import-rows.ts'
import { claimFolder } from './claim-folder.ts'
import { damaged } from './format.ts'
import { type Retired, retireAll } from './retire.ts'
import { rowsOf } from './rows.ts'
import { type Unpacked, unpack } from './unpack.ts'

/** What is restored, and where to. */
export interface RestoreOptions {
  readonly from: Readable
  readonly dataDir: string
  /** The settings, from flags and variables and what the backup's own settings file says. */
  readonly configOf: (fileText: string | undefined) => Config
  readonly now: Date
  readonly processId: number
  readonly isAlive: (processId: number) => boolean
  /** Called behind each step; what it throws ends the restore. */
  readonly faults?: (step: RestoreStep) => void
}

/** The steps of a restore, in order. */
export const restoreSteps = ['claimed', 'unpacked', 'imported', 'written-down', 'moved', 'done'] as const
export type RestoreStep = (typeof restoreSteps)[number]

/** What was restored. */
export interface Restored extends Retired {
  readonly dataDir: string
  readonly database: string
  readonly createdAt: string
  readonly version: string
  readonly rows: number
  readonly artifacts: 'included' | 'left-out' | 'elsewhere'
  readonly artifactCount: number
  /** Artifacts that were bad when the backup was made. */
  readonly damaged: readonly string[]
  /** Where the settings file names another database than the one that was filled. */
  readonly settingsDatabase?: string
}

/**
 * Restores a backup into an empty folder and an empty database. Everything is unpacked and checked in a folder inside it
 * first; while that is there, nothing starts on the data folder, so a restore that was cut off is never taken for one that
 * was not. Run again it begins anew.
 */
export async function restoreBackup(options: RestoreOptions): Promise<Restored> {
  const { dataDir, faults, from } = options
  from.on('error', () => {}) // told when it is read; until then nobody listens
  const work = await claimFolder(dataDir, options).catch((error: unknown) => {
    from.destroy()
    throw error
  })
  let database: string | undefined // only where this restore made the file: nothing else is ever removed
  try {
    faults?.('claimed')
    const unpacked = await unpack(from, work)
    faults?.('unpacked')
    const settings = await readOptional(join(work, 'data', 'pawl.yaml'))
    const config = options.configOf(settings)
    database = await newFile(config.database, dataDir)
    const retired = await fill(options, config, work, unpacked)
    faults?.('imported')
    const artifactCount = await placeArtifacts(config, dataDir, work)
    await putInPlace(options, work)
    faults?.('done')
    const own = settingsDatabase(dataDir, settings)
    return {
      ...retired,
      dataDir,
      database: nameOf(config.database),
      createdAt: unpacked.header.createdAt,
      version: unpacked.header.version,
      rows: Object.values(unpacked.manifest.rows).reduce((sum, count) => sum + count, 0),
      artifacts: unpacked.header.artifacts,
      artifactCount,
      damaged: unpacked.bad,
      ...(own === config.database ? {} : { settingsDatabase: nameOf(own) }),
    }
  } catch (error) {
    if (database !== undefined)
      for (const suffix of ['', '-wal', '-shm']) await rm(database + suffix, { force: true })
    // What is in place already stays behind the barrier: the next restore takes it away by its list.
    if (!existsSync(join(work, 'moved.json'))) await rm(work, { recursive: true, force: true })
    throw error
  }
}

/** Makes the file of a SQLite database outside the folder, and names it. One that is there already is not ours. */
async function newFile(location: string, dataDir: string): Promise<string | undefined> {
  if (isPostgresUrl(location) || location === join(dataDir, 'pawl.db')) return undefined
  try {
    await (await open(location, 'wx', 0o600)).close()
    return location
  } catch {
    return undefined // what is wrong with the place is told when the database is opened
  }
}

/** The database that a server on the data folder opens when nothing but its settings file says which. */
function settingsDatabase(dataDir: string, text: string | undefined): string {
  return readSettingsFile(text, settingsFile(dataDir)).get('database')?.texts[0] ?? join(dataDir, 'pawl.db')
}

/** Fills the database, and ends what must not go on. SQLite's is made beside the other files, and moves with them. */
async function fill(
  options: RestoreOptions,
  config: Config,
  work: string,
  unpacked: Unpacked,
): Promise<Retired> {
  const { dataDir, now } = options
  const inFolder = config.database === join(dataDir, 'pawl.db')
  await mkdir(join(work, 'data'), { recursive: true, mode: 0o700 })
  const location = inFolder ? join(work, 'data', 'pawl.db') : config.database
  let retired: Retired | undefined
  await importRows(location, unpacked.header.migrations, rowsOf(work, unpacked), async (storage) => {
    const { faults } = await verifyChains(storage.db)
    const [fault] = faults
    if (fault !== undefined) {
      throw damaged(
        `its event log was edited: chain ${fault.chain}, event ${fault.seq} is ${fault.fault}`,
        'take an older backup; pawl event verify on the server it came from says the same',
      )
    }
    retired = await retireAll(storage, { config, now, header: unpacked.header })
  })
  if (retired === undefined) throw new PawlError('internal', 'the database was filled, but not finished')
  return retired
}

/** Into a folder that the settings name, each file under its own name only when it is whole. The usual one moves with the rest. */
async function placeArtifacts(config: Config, dataDir: string, work: string): Promise<number> {
  const from = join(work, 'artifacts', 'sha256')
  const names = await readdir(from).catch(() => [])
  const place = config.artifacts
  if (place?.kind !== 'folder' || place.path === join(dataDir, 'artifacts')) return names.length
  const to = join(place.path, 'sha256')
  await mkdir(to, { recursive: true, mode: 0o750 })
  for (const name of names) {
    const temporary = join(to, `.${name}.restore`)
    await copyFile(join(from, name), temporary)
    const handle = await open(temporary, 'r+')
    await handle.sync()
    await handle.close()
    await rename(temporary, join(to, name))
  }
  syncFolder(to)
  await rm(join(work, 'artifacts'), { recursive: true, force: true })
  return names.length
}

/** Moves everything up. What is moved is written down first, so that a restore that begins anew takes away no more than that. */
async function putInPlace({ dataDir, faults }: RestoreOptions, work: string): Promise<void> {
  const entries = (await readdir(join(work, 'data'))).map((name) => join(work, 'data', name))
  const artifacts = (await readdir(work)).filter((name) => name === 'artifacts')
  const all = [...entries, ...artifacts.map((name) => join(work, name))]
  const handle = await open(join(work, 'moved.json'), 'wx', 0o600)
  await handle.writeFile(JSON.stringify(all.map((path) => basename(path))))
  await handle.sync()
  await handle.close()
  syncFolder(work)
  faults?.('written-down')
  for (const path of all) {
    await rename(path, join(dataDir, basename(path)))
    faults?.('moved')
  }
  syncFolder(dataDir)
  await rm(restoringFolder(dataDir), { recursive: true, force: true })
  syncFolder(dataDir)
}

async function readOptional(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch((error: { code?: unknown }) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
}
