import { addSeconds } from '../domain/clock.ts'
import type { Join } from '../domain/join.ts'
import { type BackendFault, backendFaults } from '../domain/join-credential.ts'
import { isPawlError } from '../errors.ts'
import { BrokerFault } from '../joining/broker.ts'
import { Busy } from '../joining/calls.ts'
import type { Joining } from '../joining/joining.ts'
import { endJoinCall, leaseJoinCredential, noteJoinFault } from '../storage/join-credentials.ts'
import type { JoinCredentialRow } from '../storage/join-tables.ts'
import type { BootContext } from './context.ts'
import {
  type AnyBroker,
  credentialPlace,
  joiningOf,
  type MadeCredential,
  openSettings,
  type PlannedCredential,
  unavailable,
} from './join-credential.ts'
import { faultOfKey } from './readable-join.ts'
import { ifReadable } from './settings-sealer.ts'
import { inTransaction } from './work.ts'

// The middle step of a credential that a cluster makes (join-credential.ts): the call, with nothing held but a lease.

/** How long a lease is beyond the calls that it is for: an answer that comes late still counts. */
const leaseMarginSeconds = 5
/** The calls of one make: where it was made before, it is looked at, removed and made again. */
const mostCalls = 4
/** How long a make may be under way. */
export function leaseSeconds(timeoutSeconds: number): number {
  return mostCalls * timeoutSeconds + leaseMarginSeconds
}

/** Names that are somebody else's already, in a row: the third is no accident. */
const mostTaken = 3

/** Has it made. Throws `join-unavailable` where the cluster does not, with what the node says on its console meanwhile. */
export async function makeCredential(
  context: BootContext,
  { row }: PlannedCredential,
): Promise<MadeCredential> {
  const { broker, joining } = joiningOf(context, row.kind)
  try {
    const settings = readable(() => openSettings(context, row))
    return await joining.making.run(broker.backend(settings), () =>
      call(context, { broker, joining, settings }, row),
    )
  } catch (error) {
    if (error instanceof Busy) {
      joining.meter.busy()
      throw unavailable(error.message)
    }
    if (!(error instanceof BrokerFault)) throw error
    // What settings tell by themselves was asked of no cluster, and is counted here.
    if (error.fault === 'settings') joining.meter.called('make', 'settings', 0)
    await noteFault(context, row, error)
    throw unavailable(error.message, error.retryAfterSeconds)
  }
}

/** What this server's key does not open is a fault of the settings, told like any other: a key was lost, or is another's. */
function readable<T>(open: () => T): T {
  try {
    return open()
  } catch (error) {
    if (!isPawlError(error, 'key-unreadable')) throw error
    throw new BrokerFault('settings', faultOfKey(error))
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
    const { secret, sealed } = secretOf(context, broker, row)
    const began = context.clock()
    const until = addSeconds(began, leaseSeconds(timeoutSeconds))
    const expiresAt = addSeconds(began, broker.lifetimeSeconds(settings) ?? lifetimeSeconds)
    const asked = { now: began, until, expiresAt, settings: row.settings, sealed }
    if (!(await context.storage.transaction((tx) => leaseJoinCredential(tx, row, asked))))
      throw unavailable('another request of this boot is being served')
    const again = row.state === 'called'
    const made = await making(context, backend, row, { secret, until, expiresAt, again })
    const seconds = secondsSince(context, began)
    if (made) return { row, secret, until, expiresAt, seconds, again }
    if (tries === mostTaken)
      throw new BrokerFault('refused', 'the cluster says of every name that it is taken')
    row = await madeUpAnew(context, broker, row, until)
  }
}

/**
 * The secret that was made up for this boot. One that this server's key does not open was given to nobody, so that another takes its place
 * under the same name: where the cluster was asked for the first, that one is removed there before (`again`), and the lease stores the other.
 */
function secretOf(
  context: BootContext,
  broker: AnyBroker,
  { sealed, session }: JoinCredentialRow,
): { readonly secret: string; readonly sealed: string } {
  const place = credentialPlace(session)
  const known = ifReadable(() => context.sealer.open(sealed, place))
  if (known !== undefined) return { secret: known, sealed }
  const { secret } = broker.makeUp(context.randomBytes)
  return { secret, sealed: context.sealer.seal(secret, place) }
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

/** One event for each cause of a session, whatever the node's patience; the timeline counts the tries. */
async function noteFault(context: BootContext, row: JoinCredentialRow, error: BrokerFault): Promise<void> {
  const { session, node, profile, kind } = row
  const now = context.clock()
  context.spans?.note({
    ...{ session, stage: 'stage3', kind: 'refused', at: now, seconds: 0 },
    detail: `join: ${error.message}`,
  })
  if (row.fault?.split(',').includes(error.fault) === true) return
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

function secondsSince({ clock }: BootContext, began: Date): number {
  return (clock().getTime() - began.getTime()) / 1000
}
