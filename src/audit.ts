import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { BootContext } from './boot/context.ts'
import { PawlError } from './errors.ts'
import { type CheckpointSigner, checkpointWhenDue } from './fleet/checkpoints.ts'
import { trimOldEvents } from './fleet/retention.ts'
import { createFile, findPublicFile } from './pki/key-file.ts'
import { findCheckpoint, lastCheckpoint } from './storage/checkpoints.ts'

/** What the server does by itself for the record: signs where it is, copies that elsewhere, removes what is too old. */
export interface AuditSettings {
  /** How often a checkpoint is signed when something happened; 0: only when an operator asks. */
  readonly checkpointSeconds: number
  /** A folder that gets a file for each checkpoint; undefined: none. */
  readonly checkpointDir: string | undefined
  /** How long events are kept; 0: for ever. */
  readonly eventRetentionDays: number
}

/** Signs a checkpoint when one is due, and copies those that the folder does not have. */
export async function tendCheckpoints(
  context: BootContext,
  signer: CheckpointSigner,
  { checkpointSeconds, checkpointDir }: AuditSettings,
): Promise<void> {
  try {
    if (checkpointSeconds > 0) await checkpointWhenDue(context, signer, checkpointSeconds)
  } finally {
    if (checkpointDir !== undefined) await copyCheckpoints(context, checkpointDir)
  }
}

/** Copies what the folder does not have: each server has a folder of its own, or all have one. */
export async function tendCopies(
  context: BootContext,
  { checkpointDir }: Pick<AuditSettings, 'checkpointDir'>,
): Promise<void> {
  if (checkpointDir !== undefined) await copyCheckpoints(context, checkpointDir)
}

/** Removes events beyond their time. What does not verify stays, and is told. */
export async function tendRetention(
  context: BootContext,
  signer: CheckpointSigner,
  { eventRetentionDays }: AuditSettings,
  log: Pick<Logger, 'info' | 'error'>,
): Promise<void> {
  if (eventRetentionDays === 0) return
  const { chains, events, faults } = await trimOldEvents(context, signer, eventRetentionDays)
  if (events > 0) log.info({ chains, events }, 'old events removed')
  if (faults.length > 0) log.error({ faults }, 'old events stay: they do not fit together')
}

const fileName = /^checkpoint-(\d{8,})\.jws$/

/**
 * Writes a file for each checkpoint behind the last that the folder has: a run that was cut off, or a folder that was away,
 * is made up for. A folder that is ahead of the database, or holds another checkpoint under a number, says that the
 * database was set back: that is an error each time, and nothing is overwritten.
 */
async function copyCheckpoints({ storage: { db } }: BootContext, folder: string): Promise<void> {
  const last = (await lastCheckpoint(db))?.seq ?? 0
  const there = Math.max(0, ...namesIn(folder).map((name) => Number(fileName.exec(name)?.[1] ?? 0)))
  if (there > last) throw setBack(`${folder} holds checkpoint ${there}, the database none after ${last}`)
  for (let seq = Math.max(1, there); seq <= last; seq += 1) {
    const row = await findCheckpoint(db, seq)
    if (row === undefined) continue
    const file = join(folder, `checkpoint-${String(seq).padStart(8, '0')}.jws`)
    const text = `${row.jws}\n`
    if (!createFile(file, text, 0o644) && findPublicFile(file) !== text)
      throw setBack(`${file} is another checkpoint than the database's`)
  }
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
    hint: 'the database was set back to an older state: verify the event log against the checkpoint in the folder',
  })
}
