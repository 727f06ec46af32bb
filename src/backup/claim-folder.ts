import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { PawlError } from '../errors.ts'
import { checkDataFolderMode, restoringFolder } from '../pki/data-folder.ts'
import { syncFolder } from '../pki/key-file.ts'

/** Tells a restore that runs from one that was killed. */
export interface Claimant {
  readonly processId: number
  readonly isAlive: (processId: number) => boolean
}

/**
 * Makes the folder to restore in, inside `dataDir`, which must be empty but for what a killed restore left. Until it is gone
 * no server starts there. Throws `exists` for a folder with anything else, `conflict` while another restore runs.
 */
export async function claimFolder(dataDir: string, { processId, isAlive }: Claimant): Promise<string> {
  if (lstatSync(dataDir, { throwIfNoEntry: false }) === undefined) {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 })
    syncFolder(dirname(resolve(dataDir)))
  }
  checkDataFolderMode(dataDir)
  const work = restoringFolder(dataDir)
  const rest = leftBehind(dataDir, work, isAlive)
  const names = readdirSync(dataDir).filter((name) => name !== 'lost+found')
  const others = names.filter((name) => join(dataDir, name) !== work && !rest.includes(name)).sort()
  if (others.length > 0) throw full(dataDir, others, isAlive)
  for (const name of rest) await rm(join(dataDir, name), { recursive: true, force: true })
  await rm(work, { recursive: true, force: true })
  mkdirSync(work, { mode: 0o700 })
  await writeFile(join(work, 'owner'), String(processId), { mode: 0o600, flush: true })
  syncFolder(dataDir)
  return work
}

/** What a killed restore had put in place already. */
function leftBehind(dataDir: string, work: string, isAlive: Claimant['isAlive']): string[] {
  if (!existsSync(work)) return []
  const owner = Number(read(join(work, 'owner')) ?? 0)
  if (owner > 0 && isAlive(owner)) {
    throw new PawlError('conflict', `another restore into ${dataDir} is running (process ${owner})`, {
      hint: 'wait for it, or stop it and try again',
    })
  }
  try {
    const names = JSON.parse(read(join(work, 'moved.json')) ?? '[]') as unknown
    return Array.isArray(names) ? names.filter((name) => typeof name === 'string' && !name.includes('/')) : []
  } catch {
    return []
  }
}

function full(dataDir: string, names: readonly string[], isAlive: Claimant['isAlive']): PawlError {
  const { pid } = JSON.parse(read(join(dataDir, 'server.json')) ?? '{}') as { pid?: number }
  const runs = pid !== undefined && isAlive(pid)
  return new PawlError(
    'exists',
    runs
      ? `a server runs on ${dataDir} (process ${pid}): nothing is restored over it`
      : `${dataDir} is not empty: it holds ${names.slice(0, 3).join(', ')}`,
    {
      hint: 'name a new folder with --data, or stop the server and move the old one away: nothing is overwritten',
    },
  )
}

function read(file: string): string | undefined {
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined
}
