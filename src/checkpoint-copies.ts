import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { PawlError } from './errors.ts'
import { createFile, findPublicFile } from './pki/key-file.ts'
import { findCheckpoint, lastCheckpoint } from './storage/checkpoints.ts'
import type { Queries } from './storage/database.ts'

const fileName = /^checkpoint-(\d{8,})\.jws$/
const pathOf = (folder: string, seq: number): string =>
  join(folder, `checkpoint-${String(seq).padStart(8, '0')}.jws`)

/**
 * Writes a file for each checkpoint behind the last that the folder has: a run that was cut off, or a folder that was away,
 * is made up for. Nothing is overwritten. Throws as `lastCopy`.
 */
export async function copyCheckpoints(db: Queries, folder: string): Promise<void> {
  const last = (await lastCheckpoint(db))?.seq ?? 0
  for (let seq = (await lastCopy(db, folder)) + 1; seq <= last; seq += 1) {
    const row = await findCheckpoint(db, seq)
    if (row === undefined) continue
    const file = pathOf(folder, seq)
    if (!createFile(file, `${row.jws}\n`, 0o644)) refuseOther(file, row.jws)
  }
}

/**
 * The number of the last checkpoint that the folder has; 0 where it has none. A folder that is ahead of the database, or holds
 * another checkpoint under that number, says that the database was set back: throws `conflict`.
 */
export async function lastCopy(db: Queries, folder: string): Promise<number> {
  const there = Math.max(0, ...namesIn(folder).map((name) => Number(fileName.exec(name)?.[1] ?? 0)))
  const last = (await lastCheckpoint(db))?.seq ?? 0
  if (there > last)
    throw setBack(
      `${folder} holds checkpoint ${there}, the database ${last === 0 ? 'none' : `none after ${last}`}`,
    )
  const row = there === 0 ? undefined : await findCheckpoint(db, there)
  if (row !== undefined) refuseOther(pathOf(folder, there), row.jws)
  return there
}

function refuseOther(file: string, jws: string): void {
  if (findPublicFile(file) !== `${jws}\n`) throw setBack(`${file} is another checkpoint than the database's`)
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (cause) {
    const code = String((cause as { code?: unknown }).code)
    throw new PawlError('invalid', `checkpoints cannot be copied to ${folder} (${code})`, {
      hint: 'make the folder, or correct checkpointDir',
      cause,
    })
  }
}

function setBack(message: string): PawlError {
  return new PawlError('conflict', message, {
    hint: 'the database was set back to an older state (a backup that was restored, a standby that was behind when it was promoted): verify the event log against the checkpoint in the folder',
  })
}
