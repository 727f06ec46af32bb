import { randomBytes } from 'node:crypto'
import { link, mkdir, open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PawlError } from '../errors.ts'
import { syncFolder } from '../pki/key-file.ts'
import type { FleetFile } from './fleet-yaml.ts'

interface Begun {
  /** Where it is to be, and beside it where it is written first. */
  readonly path: string
  readonly temporary: string
  readonly text: string
}

/**
 * Writes files into a folder, all of them or none; how many were. Nothing is overwritten: a file that is there as it would be written stays,
 * and where one is another, none is written. One that is filled in by hand stays whatever is in it. Each is whole and on the disk before it
 * has its name.
 */
export async function writeFolder(folder: string, files: readonly FleetFile[]): Promise<number> {
  const absent = await absentIn(folder, files)
  if (absent.length === 0) return 0
  const made = await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw notWritten(folder, error)
  })
  const named: string[] = []
  try {
    for (const file of absent) await write(file)
    for (const { path, temporary } of absent) {
      await link(temporary, path) // where a rename would overwrite what came meanwhile
      named.push(path)
    }
    syncFolder(folder)
  } catch (error) {
    await Promise.all(named.map((path) => rm(path, { force: true })))
    throw notWritten(folder, error)
  } finally {
    await Promise.all(absent.map(({ temporary }) => rm(temporary, { force: true })))
    if (named.length < absent.length && made !== undefined) await rm(made, { recursive: true, force: true })
  }
  return absent.length
}

/** What is not there yet. Throws `exists` where something else is. */
async function absentIn(folder: string, files: readonly FleetFile[]): Promise<Begun[]> {
  const absent: Begun[] = []
  for (const { name, lines, toFillIn } of files) {
    const path = join(folder, name)
    const text = `${lines.join('\n')}\n`
    const before = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
      throw new PawlError('invalid', `${path} cannot be read (${error.code})`)
    })
    const temporary = join(folder, `.${name}.${randomBytes(8).toString('hex')}.tmp`)
    if (before === undefined) absent.push({ path, temporary, text })
    else if (before !== text && toFillIn !== true)
      throw new PawlError('exists', `${path} exists already, and is another`, { hint: 'name a new folder' })
  }
  return absent
}

async function write({ temporary, text }: Begun): Promise<void> {
  const file = await open(temporary, 'wx')
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
}

function notWritten(folder: string, error: unknown): PawlError {
  const { code = 'unknown' } = error as NodeJS.ErrnoException
  const full = code === 'ENOSPC' || code === 'EDQUOT'
  return full
    ? new PawlError('disk-full', `there is no room left for ${folder}`, {
        hint: 'nothing was written: free space on its disk, or name a folder on another',
        cause: error,
      })
    : new PawlError('invalid', `${folder} cannot be written (${code})`, {
        hint: 'nothing was written',
        cause: error,
      })
}
