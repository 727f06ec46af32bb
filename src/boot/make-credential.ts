import type { Join } from '../domain/join.ts'
import { type BackendFault, backendFaults } from '../domain/join-credential.ts'
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
import { inTransaction } from './work.ts'

// The middle step of a credential that a cluster makes (join-credential.ts): the call, with nothing held but a lease.

/** How long a lease is beyond the calls that it is for: an answer that comes late still counts. */
const leaseMarginSeconds = 5
/** The calls of one make: where it was made before, it is removed and made again. */
const mostCalls = 3
/** Names that are somebody else's already, in a row: the third is no accident. */
const mostTaken = 3

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

function after(time: Date, seconds: number): Date {
  return new Date(time.getTime() + seconds * 1000)
}

function secondsSince({ clock }: BootContext, began: Date): number {
  return (clock().getTime() - began.getTime()) / 1000
}
