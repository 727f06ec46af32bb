import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { parse, stringify } from 'yaml'
import { PawlError } from '../errors.ts'
import { authorityFiles, createAuthority, openAuthority } from './authority.ts'
import { checkpointKeyFile, createCheckpointKey } from './checkpoint-key.ts'
import { createClientAuthorities } from './client-authority.ts'
import {
  findPublicFile,
  isOwnedByUs,
  isTemporary,
  removeTemporaries,
  syncFolder,
  writeSecretFile,
} from './key-file.ts'
import { createSettingsKey, settingsKey, settingsKeyFile } from './settings-key.ts'

/** What `pawl init` was told. */
export interface InitRequest {
  readonly dataDir: string
  /** Parsed; undefined where it was not given. */
  readonly publicUrl: string | undefined
  /** Parsed names besides the public URL's. */
  readonly names: readonly string[]
  readonly now: Date
}

/** The settings file of a data folder. */
export function settingsFile(dataDir: string): string {
  return join(dataDir, 'pawl.yaml')
}

/**
 * Makes the data folder with its CA, keys and settings file; returns what it made, none when all was there. Killed
 * anywhere and run again, it completes; it overwrites nothing. Throws `exists` for a folder with other things in it and
 * for settings that differ from those in the file, `key-unreadable` for one that others can reach.
 */
export async function initData(request: InitRequest): Promise<{ created: string[] }> {
  const { dataDir, now } = request
  const created = makeFolder(dataDir) ? [dataDir] : []
  checkDataFolder(dataDir)
  refuseForeign(dataDir)
  const { folder, issuingCertificate } = authorityFiles(dataDir)
  // The settings file comes first: it marks the folder as ours, so that a run cut off later is gone on with.
  if (writeSettings(request)) created.push(settingsFile(dataDir))
  if (makeFolder(folder)) created.push(folder)
  for (const place of [dataDir, folder]) removeTemporaries(place)
  // The issuing certificate is made last. Where it is and the settings key is not, it was lost: the last line says so.
  const wasComplete = existsSync(issuingCertificate)
  if (!wasComplete && createSettingsKey(dataDir)) created.push(settingsKeyFile(dataDir))
  created.push(...(await createAuthority(dataDir, now)))
  openAuthority(dataDir)
  created.push(...(await createClientAuthorities(dataDir, now)))
  settingsKey(dataDir)
  // Here and not by the first server: copies of the folder must all have the same.
  if (createCheckpointKey(dataDir)) created.push(checkpointKeyFile(dataDir))
  return { created: created.map((path) => relative(dataDir, path) || '.') }
}

/** Where a restore works; while it is there, the data folder is not whole. */
export function restoringFolder(dataDir: string): string {
  return join(dataDir, '.restoring')
}

/**
 * Throws unless `dataDir` is a folder of ours that nobody else can enter, since it holds keys, the database and images, and
 * that no restore has left half done.
 */
export function checkDataFolder(dataDir: string): void {
  checkDataFolderMode(dataDir)
  if (!existsSync(restoringFolder(dataDir))) return
  throw new PawlError('conflict', `a restore into ${dataDir} was cut off, or is still running`, {
    hint: 'run the same pawl restore again: it begins anew',
  })
}

/** The first half of `checkDataFolder`: whose it is, and who can enter. */
export function checkDataFolderMode(dataDir: string): void {
  const stat = statSync(dataDir, { throwIfNoEntry: false })
  if (stat === undefined) {
    throw new PawlError('not-found', `data folder ${dataDir} does not exist`, {
      hint: `run pawl init --data ${dataDir}`,
    })
  }
  if (!stat.isDirectory()) {
    throw new PawlError('invalid', `${dataDir} is not a folder`, { hint: 'name a folder with --data' })
  }
  if (!isOwnedByUs(stat.uid)) {
    throw new PawlError('key-unreadable', `${dataDir} belongs to another user (uid ${stat.uid})`, {
      hint: 'run pawl as that user, or name another folder with --data',
    })
  }
  if ((stat.mode & 0o077) === 0) return
  const mode = (stat.mode & 0o777).toString(8).padStart(4, '0')
  throw new PawlError(
    'key-unreadable',
    `data folder ${dataDir} has mode ${mode}: others can reach its keys`,
    {
      hint: `run chmod 700 ${dataDir}`,
    },
  )
}

function makeFolder(folder: string): boolean {
  if (existsSync(folder)) return false
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (cause) {
    const code = String((cause as { code?: unknown }).code)
    throw new PawlError(code === 'ENOSPC' ? 'disk-full' : 'invalid', `${folder} cannot be made (${code})`, {
      hint: 'name a folder that this user can make with --data',
      cause,
    })
  }
  syncFolder(dirname(resolve(folder)))
  return true
}

/** Keys go into an empty folder or into one of ours, never among someone's documents. */
function refuseForeign(dataDir: string): void {
  // The root of a mounted file system is empty but for this folder.
  const names = readdirSync(dataDir).filter((name) => name !== 'lost+found' && !isTemporary(name))
  const isOurs = names.includes('pawl.yaml') || existsSync(authorityFiles(dataDir).issuingCertificate)
  if (names.length === 0 || isOurs) return
  const found = names.sort().slice(0, 3).join(', ')
  throw new PawlError('exists', `${dataDir} is not empty and not a Pawl data folder: it holds ${found}`, {
    hint: 'name a new folder with --data',
  })
}

function writeSettings({ dataDir, publicUrl, names }: InitRequest): boolean {
  const file = settingsFile(dataDir)
  const text = findPublicFile(file)
  if (text !== undefined) {
    refuseOtherSettings(file, text, publicUrl, names)
    return false
  }
  const settings = {
    ...(publicUrl === undefined ? {} : { publicUrl }),
    ...(names.length === 0 ? {} : { names }),
  }
  const body = Object.keys(settings).length === 0 ? '' : stringify(settings)
  // 0600: it may come to hold the database's password.
  return writeSecretFile(
    file,
    `# Settings of this Pawl server; docs/configuration.md lists them all.\n${body}`,
  )
}

/** A second `pawl init` that says something else would change nothing, and its user would not know. */
function refuseOtherSettings(
  file: string,
  text: string,
  publicUrl: string | undefined,
  names: readonly string[],
): void {
  const stored = readSettings(file, text)
  const storedNames = [stored.names ?? []].flat()
  const missing = names.find((name) => !storedNames.includes(name))
  const other =
    publicUrl !== undefined && stored.publicUrl !== publicUrl
      ? `publicUrl ${JSON.stringify(stored.publicUrl ?? null)}, not ${publicUrl}`
      : missing && `names without ${missing}`
  if (other === undefined) return
  throw new PawlError('exists', `${file} is there already, with ${other}`, {
    hint: `edit ${file}; the server makes new certificates when it starts`,
  })
}

function readSettings(file: string, text: string): { publicUrl?: unknown; names?: unknown } {
  try {
    return parse(text) ?? {}
  } catch (cause) {
    throw new PawlError('usage', `${file} is not valid YAML`, { hint: 'mend it, or move it away', cause })
  }
}
