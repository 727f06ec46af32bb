import { credentialOf, type Join, mapSecretSettings } from '../domain/join.ts'
import { type BackendFault, backendFaults } from '../domain/join-credential.ts'
import { PawlError } from '../errors.ts'
import { type Broker, BrokerFault } from '../joining/broker.ts'
import { Busy } from '../joining/calls.ts'
import type { Joining } from '../joining/joining.ts'
import { findProfile, readProfile } from '../storage/fleet.ts'
import {
  endJoinCall,
  findJoinCredential,
  leaseJoinCredential,
  noteJoinFault,
  planJoinCredential,
  takeJoinCredential,
} from '../storage/join-credentials.ts'
import type { JoinCredentialRow } from '../storage/join-tables.ts'
import type { BootContext } from './context.ts'
import { secretPlace } from './join-script.ts'
import type { OpenedToken } from './open-token.ts'
import { inTransaction, type Work } from './work.ts'

/**
 * A credential that a cluster makes for one boot, in three steps, of which only the middle one waits for the cluster:
 *
 *   plan (transaction: the join token is good; the credential is made up, sealed, stored)
 *   ──▶ make (no transaction: one request at a time asks the cluster, by a lease)
 *   ──▶ take (the transaction of the redemption: the token is used up, and the node has it)
 *
 * A process that is killed between two of them leaves a row, by which the next try makes the same credential, or the end of the session
 * removes it (remove-credentials.ts). Where the cluster does not do it the token is as it was, and the node comes again.
 */
export class PlannedCredential {
  readonly row: JoinCredentialRow

  constructor(row: JoinCredentialRow) {
    this.row = row
  }
}

/** A credential that the cluster has made, for the redemption that follows. */
export interface MadeCredential {
  readonly row: JoinCredentialRow
  readonly secret: string
  readonly until: Date
  readonly expiresAt: Date
  readonly seconds: number
}

type AnyBroker = Broker<NonNullable<Join['settings']>>

/** How long a lease is beyond the calls that it is for: an answer that comes late still counts. */
const leaseMarginSeconds = 5
/** The calls of one make: where it was made before, it is removed and made again. */
const mostCalls = 3
/** Names that are somebody else's already, in a row: the third is no accident. */
const mostTaken = 3

/** Makes up what is to be made, or finds what was made up before. By the settings as they are now: they may have been mended. */
export async function planCredential(
  work: Work,
  { node, session, pinned }: OpenedToken,
  join: Join,
): Promise<PlannedCredential> {
  const known = await findJoinCredential(work.tx, session.id)
  const settings = JSON.stringify((await joinNow(work, pinned.profile, session.sequence, join)).settings)
  if (known !== undefined) return new PlannedCredential({ ...known, settings })
  const { broker } = joiningOf(work.context, join.kind)
  const { handle, secret } = broker.makeUp(work.context.randomBytes)
  const row: JoinCredentialRow = {
    ...{ session: session.id, node: node.name, profile: pinned.profile, sequence: session.sequence },
    ...{ kind: join.kind, handle, settings, state: 'planned', created_at: work.now.toISOString() },
    sealed: work.context.sealer.seal(secret, credentialPlace(session.id)),
    ...{ expires_at: null, call_until: null, made_at: null, fault: null },
    ...{ removal: null, remove_at: null, removal_tries: 0 },
  }
  await planJoinCredential(work.tx, row)
  return new PlannedCredential(row)
}

/**
 * What the template is given of a credential that nobody makes, for `profile apply`; throws `invalid` where the settings themselves say that
 * none can be made. `at` is where the join stands.
 */
export function tryCredential(
  context: BootContext,
  join: Join,
  at: string,
): Readonly<Record<string, unknown>> {
  const { broker } = joiningOf(context, join.kind)
  const settings = join.settings ?? {}
  const fault = broker.fault(settings, context.clock())
  if (fault !== undefined) throw new PawlError('invalid', `${at}.settings.${fault.at} ${fault.message}`)
  return broker.variables(settings, broker.makeUp(context.randomBytes))
}

/** Has it made. Throws `join-unavailable` where the cluster does not, with what the node says on its console meanwhile. */
export async function makeCredential(
  context: BootContext,
  { row }: PlannedCredential,
): Promise<MadeCredential> {
  const { broker, joining } = joiningOf(context, row.kind)
  const settings = openSettings(context, row)
  try {
    return await joining.making.run(broker.backend(settings), () =>
      call(context, { broker, joining, settings }, row),
    )
  } catch (error) {
    if (error instanceof Busy) {
      joining.meter.busy()
      throw unavailable(error.message)
    }
    if (!(error instanceof BrokerFault)) throw error
    await noteFault(context, row, error)
    throw unavailable(error.message, error.retryAfterSeconds)
  }
}

interface Backend {
  readonly broker: AnyBroker
  readonly joining: Joining
  readonly settings: NonNullable<Join['settings']>
}

async function call(
  context: BootContext,
  backend: Backend,
  planned: JoinCredentialRow,
): Promise<MadeCredential> {
  const { broker, joining, settings } = backend
  const { timeoutSeconds, lifetimeSeconds } = joining.limits
  let row = planned
  for (let tries = 1; ; tries += 1) {
    const began = context.clock()
    const until = after(began, mostCalls * timeoutSeconds + leaseMarginSeconds)
    const expiresAt = after(began, broker.lifetimeSeconds(settings) ?? lifetimeSeconds)
    const asked = { now: began, until, expiresAt, settings: row.settings }
    if (!(await context.storage.transaction((tx) => leaseJoinCredential(tx, row, asked))))
      throw unavailable('another request of this boot is being served')
    const secret = context.sealer.open(row.sealed, credentialPlace(row.session))
    const again = row.state === 'called'
    const made = await making(context, backend, row, { secret, until, expiresAt, again })
    const seconds = secondsSince(context, began)
    if (made) return { row, secret, until, expiresAt, seconds }
    if (tries === mostTaken)
      throw new BrokerFault('refused', 'the cluster says of every name that it is taken')
    row = await madeUpAnew(context, broker, row, until)
  }
}

async function making(
  context: BootContext,
  { broker, joining, settings }: Backend,
  { session, node, handle }: JoinCredentialRow,
  of: { readonly secret: string; readonly until: Date; readonly expiresAt: Date; readonly again: boolean },
): Promise<boolean> {
  const began = context.clock()
  const { secret, until, expiresAt, again } = of
  try {
    const made = await broker.make({ handle, secret, expiresAt, node, session, again }, settings)
    joining.meter.called('make', 'done', secondsSince(context, began))
    return made === 'made'
  } catch (error) {
    const fault = error instanceof BrokerFault ? error.fault : undefined
    if (fault !== undefined) joining.meter.called('make', fault, secondsSince(context, began))
    const untouched = !again && fault !== undefined && certain.has(fault)
    await context.storage.transaction((tx) =>
      endJoinCall(tx, { session, until }, untouched ? { state: 'planned' } : {}),
    )
    throw error
  }
}

/** Faults after which the cluster has surely made nothing. */
const certain: ReadonlySet<BackendFault> = new Set<BackendFault>([
  ...(['wrong-ca', 'wrong-name', 'expired-certificate', 'unauthorized'] as const),
  ...(['forbidden', 'refused', 'settings'] as const),
])

async function madeUpAnew(
  context: BootContext,
  broker: AnyBroker,
  row: JoinCredentialRow,
  until: Date,
): Promise<JoinCredentialRow> {
  const { handle, secret } = broker.makeUp(context.randomBytes)
  const sealed = context.sealer.seal(secret, credentialPlace(row.session))
  const changes = { state: 'planned' as const, handle, sealed }
  await context.storage.transaction((tx) => endJoinCall(tx, { session: row.session, until }, changes))
  return { ...row, ...changes }
}

/** Gives a credential to the node, in the transaction that uses its token up: what the template is given of it. */
export async function takeCredential(
  work: Work,
  { node, session }: OpenedToken,
  made: MadeCredential,
): Promise<Readonly<Record<string, unknown>>> {
  const { row, until, secret, expiresAt, seconds } = made
  const { handle, kind, profile } = row
  if (!(await takeJoinCredential(work.tx, { session: session.id, handle, until, now: work.now })))
    throw unavailable('another request of this boot is being served')
  await work.event({
    kind: 'credential-made',
    node: node.name,
    session: session.id,
    actor: 'server',
    source: null,
    detail: { kind, profile, credential: handle, expiresAt: expiresAt.toISOString(), seconds },
  })
  const { broker } = joiningOf(work.context, kind)
  return broker.variables(openSettings(work.context, row), { handle, secret })
}

/** The redemption behind a call came to nothing: the next one need not wait until the lease is over. */
export async function releaseCredential(context: BootContext, { row, until }: MadeCredential): Promise<void> {
  await context.storage.transaction((tx) => endJoinCall(tx, { session: row.session, until }, {}))
}

/** The settings by which a credential was made, secrets open. Throws `key-unreadable`. */
export function openSettings(
  { sealer }: Pick<BootContext, 'sealer'>,
  {
    kind,
    profile,
    sequence,
    settings,
  }: Pick<JoinCredentialRow, 'kind' | 'profile' | 'sequence' | 'settings'>,
): NonNullable<Join['settings']> {
  const join = { kind, settings: JSON.parse(settings) } as Join // our own row
  const open = mapSecretSettings(join, (sealed, name) =>
    sealer.open(sealed, secretPlace(profile, sequence, name)),
  )
  return open.settings ?? {}
}

/**
 * The join as its profile has it now, where it joins the same cluster; else as it was pinned. The account by which we ask a cluster is ours and
 * not the boot's: nodes that wait because it has ended go on when it is mended.
 */
async function joinNow(
  { tx }: Work,
  profile: string,
  sequence: 'boot' | 'reinstall',
  pinned: Join,
): Promise<Join> {
  const row = await findProfile(tx, profile)
  const written = row === undefined ? undefined : readProfile(row)[sequence]
  if (typeof written !== 'object' || !('join' in written)) return pinned
  const { join } = written
  const same = join.kind === pinned.kind && credentialOf(join) === 'brokered'
  return same && endpointOf(join) === endpointOf(pinned) ? join : pinned
}

function endpointOf({ settings }: Join): unknown {
  return (settings as { endpoint?: unknown } | undefined)?.endpoint
}

/** One event for each cause of a session, whatever the node's patience; the timeline counts the tries. */
async function noteFault(context: BootContext, row: JoinCredentialRow, error: BrokerFault): Promise<void> {
  const { session, node, profile, kind } = row
  const now = context.clock()
  context.spans?.note({
    ...{ session, stage: 'stage3', kind: 'refused', at: now, seconds: 0 },
    detail: `join: ${error.message}`,
  })
  if (row.fault === error.fault) return
  await inTransaction(context, async (work) => {
    if (!(await noteJoinFault(work.tx, session, error.fault))) return
    await work.event({
      ...{ kind: 'credential-refused', node, session, actor: 'server', source: null },
      detail: {
        kind,
        profile,
        cause: error.fault,
        message: error.message,
        means: backendFaults[error.fault],
      },
    })
  })
}

function joiningOf({ joining }: BootContext, kind: string): { joining: Joining; broker: AnyBroker } {
  const broker = joining?.broker(kind)
  if (joining === undefined || broker === undefined)
    throw new PawlError('internal', `nobody makes credentials for joins of the kind ${kind}`)
  return { joining, broker }
}

function credentialPlace(session: string): string {
  return `join-credential/${session}`
}

function after(time: Date, seconds: number): Date {
  return new Date(time.getTime() + seconds * 1000)
}

function secondsSince({ clock }: BootContext, began: Date): number {
  return (clock().getTime() - began.getTime()) / 1000
}

function unavailable(why: string, retryAfterSeconds?: number): PawlError {
  return new PawlError('join-unavailable', `the join waits: ${why}`, {
    hint: 'ask again',
    ...(retryAfterSeconds === undefined
      ? {}
      : { retryAfterSeconds: Math.min(120, Math.max(1, retryAfterSeconds)) }),
  })
}
