import { randomBytes } from 'node:crypto'
import type { BootContext } from '../boot/context.ts'
import { endSession } from '../boot/end-session.ts'
import { openTransfers } from '../boot/transfers.ts'
import { inTransaction, type Work } from '../boot/work.ts'
import type { Config } from '../config.ts'
import type { Storage } from '../storage/database.ts'
import { lockNode } from '../storage/nodes.ts'
import { findSession } from '../storage/sessions.ts'
import type { BackupHeader } from './format.ts'

/** What a restore ended, and what its operator must look at: all of it is as it was when the backup was made. */
export interface Retired {
  /** Boot sessions that were open. */
  readonly sessions: number
  /** Rollouts and campaigns that ran, and are paused now. */
  readonly paused: number
  /** Rules that approved machines by themselves, and are revoked now. */
  readonly rules: number
  readonly operators: readonly { id: string; name: string; role: string; createdAt: string }[]
  readonly certificates: readonly { id: string; name: string; role: string; createdAt: string }[]
  /** Nodes that the next boot reinstalls. */
  readonly marked: readonly string[]
}

const cause = 'restored from a backup'

/**
 * Nothing that could be used once before the backup may be used again after a restore: a token that was redeemed since looks
 * unused in it. So every open session ends, every token is spent, and whatever else opens something by itself is closed. A mark
 * that was being served is a mark again.
 */
export function retireAll(
  storage: Storage,
  options: { readonly config: Config; readonly now: Date; readonly header: BackupHeader },
): Promise<Retired> {
  return inTransaction(retiredContext(storage, options), async (work) => {
    // First: the end of a session would let a campaign mark its next node.
    const paused = await pauseAll(work)
    const sessions = await endSessions(work)
    const at = work.now.toISOString()
    const { tx } = work
    await tx
      .updateTable('tokens')
      .set((e) => ({ retired_at: e.fn.coalesce('retired_at', e.val(at)), answer: null }))
      .execute()
    await tx.updateTable('nodes').set({ armed: 0 }).execute()
    for (const table of ['operator_sessions', 'login_requests', 'node_claims'] as const)
      await tx.deleteFrom(table).execute()
    const rules = await tx
      .updateTable('auto_approvals')
      .set({ revoked_at: at, revoked_by: 'operator:restore' })
      .where('revoked_at', 'is', null)
      .where('expires_at', '>', at)
      .executeTakeFirst()
    const marked = await tx
      .selectFrom('nodes')
      .select('name')
      .where('reinstall', '=', 'marked')
      .orderBy('name')
      .execute()
    const retired: Retired = {
      sessions,
      paused,
      rules: Number(rules.numUpdatedRows),
      ...(await whoMay(work)),
      marked: marked.map(({ name }) => name),
    }
    await work.event({
      kind: 'restored',
      node: null,
      session: null,
      actor: 'operator:restore',
      source: null,
      detail: {
        madeAt: options.header.createdAt,
        version: options.header.version,
        sessions: retired.sessions,
        paused: retired.paused,
        rules: retired.rules,
        marked: retired.marked.length,
      },
    })
    return retired
  })
}

/** Ended like sessions that ran out of time, so that their nodes and marks are what they would be then. */
async function endSessions(work: Work): Promise<number> {
  const open = await work.tx
    .selectFrom('sessions')
    .innerJoin('nodes', 'nodes.id', 'sessions.node')
    .select(['sessions.id', 'nodes.name'])
    .where('sessions.ended_at', 'is', null)
    .execute()
  for (const { id, name } of open) {
    const node = await lockNode(work.tx, work.context.storage.dialect, name)
    const session = await findSession(work.tx, id)
    if (node === undefined || session === undefined) continue // both were there a line ago
    await endSession(work, node, session, {
      how: 'expire',
      cause,
      actor: 'operator:restore',
      source: null,
      silence: true,
    })
  }
  return open.length
}

/** What an operator has ended since would go on by itself: a bad version rolled out, machines reinstalled a second time. */
async function pauseAll({ tx }: Work): Promise<number> {
  const rollouts = await tx
    .updateTable('rollouts')
    .set({ state: 'paused', cause })
    .where('state', '=', 'running')
    .executeTakeFirst()
  const campaigns = await tx
    .updateTable('campaigns')
    .set({ state: 'paused', cause })
    .where('state', '=', 'running')
    .executeTakeFirst()
  return Number(rollouts.numUpdatedRows) + Number(campaigns.numUpdatedRows)
}

async function whoMay({ tx, now }: Work): Promise<Pick<Retired, 'operators' | 'certificates'>> {
  const at = now.toISOString()
  const columns = ['id', 'name', 'role', 'created_at as createdAt'] as const
  const operators = await tx
    .selectFrom('operators')
    .select(columns)
    .where('revoked_at', 'is', null)
    .where((e) => e.or([e('expires_at', 'is', null), e('expires_at', '>', at)]))
    .orderBy('created_at')
    .execute()
  const certificates = await tx
    .selectFrom('operator_certificates')
    .select(columns)
    .where('revoked_at', 'is', null)
    .where('expires_at', '>', at)
    .orderBy('created_at')
    .execute()
  return { operators, certificates }
}

/** As much of a server as the end of a session or a checkpoint needs: it renders nothing and answers nobody. */
export function retiredContext(
  storage: Storage,
  { config, now }: { config: Config; now: Date },
): BootContext {
  const noIdentity = { issuer: undefined, seconds: 0, overlapSeconds: 0, keyDays: 0, keyLeadSeconds: 0 }
  const nothing = (): never => {
    throw new Error('a restore serves nobody')
  }
  return {
    storage,
    clock: () => now,
    randomBytes,
    templates: { render: nothing },
    settings: { ...config, publicUrl: config.publicUrl ?? '', traces: false, identity: noIdentity },
    sealer: { seal: nothing, open: nothing },
    rootCertificate: nothing,
    entry: { publicUrl: '', root: '', ca: '' },
    entries: () => [],
    refusals: { record: () => {}, flush: async () => {}, dropped: () => 0 },
    transfers: openTransfers(),
  }
}
