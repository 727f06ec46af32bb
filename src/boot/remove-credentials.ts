import { addSeconds } from '../domain/clock.ts'
import { credentialOf, type Join } from '../domain/join.ts'
import type { BackendFault } from '../domain/join-credential.ts'
import { isPawlError } from '../errors.ts'
import { BrokerFault } from '../joining/broker.ts'
import { Busy } from '../joining/calls.ts'
import type { Joining } from '../joining/joining.ts'
import {
  awaitLateCall,
  claimRemoval,
  dropJoinCredential,
  forgetJoinCredential,
  listCredentialsToRemove,
  listForgottenCredentials,
  releaseRemoval,
} from '../storage/join-credentials.ts'
import type { JoinCredentialRow } from '../storage/join-tables.ts'
import type { SessionRow } from '../storage/tables.ts'
import type { BootContext } from './context.ts'
import { type AnyBroker, joinNow, lateSeconds, openSettings } from './join-credential.ts'
import { leaseSeconds } from './make-credential.ts'
import { readPinned } from './pin.ts'
import { inTransaction, type Work } from './work.ts'

/** Why a credential is not wanted any more. */
export type RemovalCause = 'success' | 'fail' | 'expire' | 'supersede' | 'session is over'

/** Removals at once. The chore's and those behind a commit have room together (removals of open-joining.ts). */
const batch = 15
const firstPauseSeconds = 5
const longestPauseSeconds = 60
/** Beyond its lifetime a credential opens nothing; by then the cluster's own controller has removed it. */
const marginSeconds = 600

/** The session is over: its credential is removed at its cluster, at once behind the commit. */
export async function dropCredential(
  work: Work,
  { id, pinned }: Pick<SessionRow, 'id' | 'pinned'>,
  cause: RemovalCause,
): Promise<void> {
  const { join } = readPinned(pinned)
  if (join === undefined || credentialOf(join) !== 'brokered') return
  const { context } = work
  if (await drop(work, id, cause))
    work.afterCommit(() => context.joining?.inBackground(() => removeCredentials(context)))
}

function drop(
  { context, tx, now }: Pick<Work, 'context' | 'tx' | 'now'>,
  session: string,
  removal: RemovalCause,
): Promise<boolean> {
  const { timeoutSeconds = 0 } = context.joining?.limits ?? {}
  const lateUntil = addSeconds(now, leaseSeconds(timeoutSeconds) + lateSeconds)
  return dropJoinCredential(tx, session, { removal, now, lateUntil })
}

/** What the leader looks at: removals that failed before, and credentials whose sessions ended without a word. */
export async function tendCredentials(context: BootContext): Promise<void> {
  const forgotten = await listForgottenCredentials(context.storage.db, batch)
  if (forgotten.length > 0)
    await context.storage.transaction(async (tx) => {
      const now = context.clock()
      for (const session of forgotten) await drop({ context, tx, now }, session, 'session is over')
    })
  await removeCredentials(context)
}

/** Removes what is due. Of several processes one removes each. */
export async function removeCredentials(context: BootContext): Promise<void> {
  const { joining, storage } = context
  if (joining === undefined) return
  for (;;) {
    const due = await listCredentialsToRemove(storage.db, context.clock(), batch)
    if (due.length === 0) return
    const outcomes = await Promise.all(due.map((row) => removeOne(context, joining, row)))
    // What nobody could claim, another process has.
    if (!outcomes.includes(true)) return
  }
}

/** False where another process has it. */
async function removeOne(context: BootContext, joining: Joining, row: JoinCredentialRow): Promise<boolean> {
  const now = context.clock()
  const pause = Math.min(longestPauseSeconds, firstPauseSeconds * 2 ** Math.min(row.removal_tries, 10))
  const again = new Date(now.getTime() + pause * 1000)
  if (!(await context.storage.transaction((tx) => claimRemoval(tx, row, again)))) return false
  const removal = row.state === 'planned' ? 'absent' : await removeAtCluster(context, joining, row)
  if (removal === 'busy') return release(context, row, again)
  if (removal === 'removed' || removal === 'absent') await gone(context, row, removal)
  else if (isOver(row, now)) await givenUp(context, row)
  else if (row.removal_tries === 0) await lingers(context, row, removal)
  return true
}

/** There was no room for it: nothing was tried, and it comes again soon. False, so that nobody begins it again at once. */
async function release(context: BootContext, row: JoinCredentialRow, claimed: Date): Promise<false> {
  const soon = new Date(context.clock().getTime() + firstPauseSeconds * 1000)
  await context.storage.transaction((tx) => releaseRemoval(tx, row, { claimed, soon }))
  return false
}

/** What came of a removal: it is gone by it or was not there, its cluster was not asked, or did not do it. */
type Removal = 'removed' | 'absent' | 'busy' | RemovalFault

interface RemovalFault {
  readonly cause: string
  readonly message: string
}

/** Faults of the account that we ask by, which may have been mended in the profile since. */
const ofAccount: ReadonlySet<string> = new Set<BackendFault>([
  ...(['unauthorized', 'forbidden', 'expired-certificate', 'wrong-ca', 'settings'] as const),
])

async function removeAtCluster(
  context: BootContext,
  joining: Joining,
  row: JoinCredentialRow,
): Promise<Removal> {
  const broker = joining.broker(row.kind)
  if (broker === undefined)
    return { cause: 'settings', message: `nobody knows joins of the kind ${row.kind}` }
  const removal = await removeBy(context, { joining, broker }, row)
  if (typeof removal === 'string' || !ofAccount.has(removal.cause)) return removal
  const settings = await settingsNow(context, row)
  return settings === row.settings ? removal : removeBy(context, { joining, broker }, { ...row, settings })
}

async function removeBy(
  context: BootContext,
  { joining, broker }: { readonly joining: Joining; readonly broker: AnyBroker },
  row: JoinCredentialRow,
): Promise<Removal> {
  const began = context.clock()
  const seconds = (): number => (context.clock().getTime() - began.getTime()) / 1000
  try {
    const settings = openSettings(context, row)
    const found = await joining.removing.run(broker.backend(settings), () =>
      broker.remove(row.handle, settings),
    )
    joining.meter.called('remove', 'done', seconds())
    return found ? 'removed' : 'absent'
  } catch (error) {
    if (error instanceof Busy) return 'busy'
    if (isPawlError(error, 'key-unreadable')) return { cause: 'settings', message: error.message }
    if (!(error instanceof BrokerFault)) throw error
    joining.meter.called('remove', error.fault, seconds())
    return { cause: error.fault, message: error.message }
  }
}

/** The settings by which its cluster is asked now. */
async function settingsNow(
  { storage }: BootContext,
  { profile, sequence, kind, settings }: JoinCredentialRow,
): Promise<string> {
  const made = { kind, settings: JSON.parse(settings) } as Join // our own row
  return JSON.stringify((await joinNow(storage.db, profile, sequence, made)).settings)
}

function isOver({ expires_at, created_at }: JoinCredentialRow, now: Date): boolean {
  return Date.parse(expires_at ?? created_at) + marginSeconds * 1000 < now.getTime()
}

/**
 * It is gone from its cluster, and forgotten. Where a call that makes it may be carried out yet, it is looked at once more behind that. What nobody
 * ever saw there was not removed: no event says so.
 */
async function gone(
  context: BootContext,
  row: JoinCredentialRow,
  removal: 'removed' | 'absent',
): Promise<void> {
  const { session, state, call_until } = row
  await inTransaction(context, async (work) => {
    const isFirst =
      call_until !== null && Date.parse(call_until) > work.now.getTime()
        ? await awaitLateCall(work.tx, session, call_until)
        : await forgetJoinCredential(work.tx, session)
    if (!isFirst) return
    if (state === 'made') await noteRemoved(work, row)
    else if (removal === 'removed') await noteRemoved(work, row, { unseen: true })
  })
}

async function givenUp(context: BootContext, row: JoinCredentialRow): Promise<void> {
  await inTransaction(context, async (work) => {
    if (await forgetJoinCredential(work.tx, row.session))
      await noteRemoved(work, row, { because: 'its time was over' })
  })
}

async function noteRemoved(
  work: Work,
  { session, node, kind, profile, handle, removal, made_at }: JoinCredentialRow,
  more: { readonly because?: string; readonly unseen?: true } = {},
): Promise<void> {
  await work.event({
    ...{ kind: 'credential-removed', node, session, actor: 'server', source: null },
    detail: {
      ...{ kind, profile, credential: handle, cause: removal },
      ...(made_at === null ? {} : { milliseconds: work.now.getTime() - Date.parse(made_at) }),
      ...more,
    },
  })
}

async function lingers(
  context: BootContext,
  { session, node, kind, profile, handle, expires_at }: JoinCredentialRow,
  fault: RemovalFault,
): Promise<void> {
  await inTransaction(context, (work) =>
    work.event({
      ...{ kind: 'credential-not-removed', node, session, actor: 'server', source: null },
      detail: { kind, profile, credential: handle, expiresAt: expires_at, ...fault },
    }),
  )
}
