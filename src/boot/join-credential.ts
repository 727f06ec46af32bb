import { addSeconds } from '../domain/clock.ts'
import type { JoinFault } from '../domain/join/kind.ts'
import { credentialOf, type Join, mapSecretSettings } from '../domain/join.ts'
import { PawlError } from '../errors.ts'
import type { Broker } from '../joining/broker.ts'
import type { Joining } from '../joining/joining.ts'
import type { Queries } from '../storage/database.ts'
import {
  endJoinCall,
  findJoinCredential,
  planJoinCredential,
  takeJoinCredential,
} from '../storage/join-credentials.ts'
import type { JoinCredentialRow } from '../storage/join-tables.ts'
import type { BootContext } from './context.ts'
import { secretPlace } from './join-script.ts'
import type { OpenedToken } from './open-token.ts'
import { joinOfProfile } from './readable-join.ts'
import type { Work } from './work.ts'

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
  /** Whether the cluster was asked before, and nobody knows what came of that. */
  readonly again: boolean
}

/**
 * How long a call that was given up may still be carried out: kube-apiserver ends what it works on after 60 s (--request-timeout), and a
 * kernel sends on for up to a minute what it was given before. Until then a removal is looked at again.
 */
export const lateSeconds = 120

/** A broker with the settings of its own kind. */
export type AnyBroker = Broker<NonNullable<Join['settings']>>

/** Makes up what is to be made, or finds what was made up before. By the settings as they are now: they may have been mended. */
export async function planCredential(
  work: Work,
  { node, session, pinned }: OpenedToken,
  join: Join,
): Promise<PlannedCredential> {
  const known = await findJoinCredential(work.tx, session.id)
  const settings = JSON.stringify((await joinNow(work.tx, pinned.profile, session.sequence, join)).settings)
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

/** All for which settings themselves say that no credential can be made by them. */
export function credentialFaults(context: BootContext, join: Join): readonly JoinFault[] {
  if (credentialOf(join) !== 'brokered') return []
  return joiningOf(context, join.kind).broker.faults(join.settings ?? {}, context.clock())
}

/** What the template is given of a credential that nobody makes, for `profile apply`. */
export function tryCredential(context: BootContext, join: Join): Readonly<Record<string, unknown>> {
  const { broker } = joiningOf(context, join.kind)
  return broker.variables(join.settings ?? {}, broker.makeUp(context.randomBytes))
}

/** Gives a credential to the node, in the transaction that uses its token up: what the template is given of it. */
export async function takeCredential(
  work: Work,
  { node, session }: OpenedToken,
  made: MadeCredential,
): Promise<Readonly<Record<string, unknown>>> {
  const { row, until, secret, expiresAt, seconds, again } = made
  const { handle, kind, profile } = row
  const lateUntil = again ? addSeconds(work.now, lateSeconds) : null
  const taken = { session: session.id, handle, until, now: work.now, lateUntil }
  if (!(await takeJoinCredential(work.tx, taken)))
    throw unavailable('another request of this boot is being served')
  await work.event({
    kind: 'credential-made',
    node: node.name,
    session: session.id,
    actor: 'server',
    source: null,
    detail: {
      kind,
      profile,
      credential: handle,
      expiresAt: expiresAt.toISOString(),
      milliseconds: Math.round(seconds * 1000),
    },
  })
  const { broker } = joiningOf(work.context, kind)
  return broker.variables(openSettings(work.context, row), { handle, secret })
}

/** The redemption behind a call came to nothing: the next one need not wait until the lease is over. */
export async function releaseCredential(context: BootContext, { row, until }: MadeCredential): Promise<void> {
  await context.storage.transaction((tx) => endJoinCall(tx, { session: row.session, until }, {}))
}

/** The join by whose settings a credential was made: those that were pinned may not open any more. */
export function madeJoin(join: Join, { row }: MadeCredential): Join {
  return { ...join, settings: JSON.parse(row.settings) } as Join // our own row, of a join of this kind
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
export async function joinNow(
  db: Queries,
  profile: string,
  sequence: 'boot' | 'reinstall',
  pinned: Join,
): Promise<Join> {
  const join = await joinOfProfile(db, profile, sequence)
  if (join === undefined) return pinned
  const same = join.kind === pinned.kind && credentialOf(join) === 'brokered'
  return same && endpointOf(join) === endpointOf(pinned) ? join : pinned
}

function endpointOf({ settings }: Join): unknown {
  return (settings as { endpoint?: unknown } | undefined)?.endpoint
}

/** Who makes the credentials of a kind of join. */
export function joiningOf({ joining }: BootContext, kind: string): { joining: Joining; broker: AnyBroker } {
  const broker = joining?.broker(kind)
  if (joining === undefined || broker === undefined)
    throw new PawlError('internal', `nobody makes credentials for joins of the kind ${kind}`)
  return { joining, broker }
}

/** Where a credential's secret belongs, for sealing. */
export function credentialPlace(session: string): string {
  return `join-credential/${session}`
}

/** The node is told to come again, and why. */
export function unavailable(why: string, retryAfterSeconds?: number): PawlError {
  return new PawlError('join-unavailable', `the join waits: ${why}`, {
    hint: 'ask again',
    ...(retryAfterSeconds === undefined
      ? {}
      : { retryAfterSeconds: Math.min(120, Math.max(1, retryAfterSeconds)) }),
  })
}
