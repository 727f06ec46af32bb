import type { Logger } from 'pino'
import type { BootContext } from './boot/context.ts'
import { copyCheckpoints } from './checkpoint-copies.ts'
import { type CheckpointSigner, checkpointWhenDue } from './fleet/checkpoints.ts'
import { trimOldEvents } from './fleet/retention.ts'

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
    if (checkpointDir !== undefined) await copyCheckpoints(context.storage.db, checkpointDir)
  }
}

/** Copies what the folder does not have: each server has a folder of its own, or all have one. */
export async function tendCopies(
  context: BootContext,
  { checkpointDir }: Pick<AuditSettings, 'checkpointDir'>,
): Promise<void> {
  if (checkpointDir !== undefined) await copyCheckpoints(context.storage.db, checkpointDir)
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
