import { isDeepStrictEqual } from 'node:util'
import { credentialOf, type Join, mapSecretSettings } from '../domain/join.ts'
import { backendFaults } from '../domain/join-credential.ts'
import type { StageName } from '../domain/stage.ts'
import { isPawlError, PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import { listEvents } from '../storage/events.ts'
import { findProfile, readProfile } from '../storage/fleet.ts'
import { touchSession } from '../storage/sessions.ts'
import type { NodeRow, SessionRow } from '../storage/tables.ts'
import type { BootContext } from './context.ts'
import { secretPlace } from './join-script.ts'
import type { Pinned } from './pin.ts'
import { inTransaction, type Work } from './work.ts'

/**
 * A join whose secrets this server's key does not open: the key was lost, or is another's. That is a fault of the profile, told as a cluster
 * is that is down: nothing is spent, the node says why and comes again, and it goes on when the key is back or the profile was applied anew.
 */
export class UnreadableJoin extends PawlError {
  readonly of: Waits

  constructor(of: Waits, fault: string) {
    super('join-unavailable', `the join waits: ${fault}`, { hint: 'ask again' })
    this.of = of
  }
}

/** Whose join waits, and in which stage. */
interface Waits {
  readonly node: string
  readonly session: string
  readonly stage: StageName
  readonly profile: string
  readonly kind: Join['kind']
}

/** Whose join is wanted. */
export interface JoinSubject {
  readonly node: Pick<NodeRow, 'name'>
  readonly session: Pick<SessionRow, 'id' | 'sequence' | 'stage'>
  readonly pinned: Pick<Pinned, 'profile' | 'join'>
}

/**
 * The join of a session: as it was pinned, or, where that does not open, as its profile has it now, if nothing else of it was changed since.
 * Throws UnreadableJoin. The settings by which a cluster is asked are no part of it: they have rules of their own (join-credential.ts).
 */
export async function readableJoin(work: Work, { node, session, pinned }: JoinSubject): Promise<Join> {
  const join = pinned.join ?? { kind: 'none' as const }
  const place = { profile: pinned.profile, sequence: session.sequence }
  const fault = unreadable(work.context, place, join)
  if (fault === undefined) return join
  const now = await joinOfProfile(work.tx, place.profile, place.sequence)
  const isMended = now !== undefined && isDeepStrictEqual(withoutSecrets(now), withoutSecrets(join))
  if (isMended && unreadable(work.context, place, now) === undefined) return now
  const of = { node: node.name, session: session.id, stage: session.stage }
  throw new UnreadableJoin({ ...of, profile: pinned.profile, kind: join.kind }, fault)
}

/** The join that a sequence of a profile has now; undefined where it has none, or is gone. */
export async function joinOfProfile(
  db: Queries,
  profile: string,
  sequence: SessionRow['sequence'],
): Promise<Join | undefined> {
  const row = await findProfile(db, profile)
  const written = row === undefined ? undefined : readProfile(row)[sequence]
  return typeof written === 'object' && 'join' in written ? written.join : undefined
}

/** What does not open of a join, and what mends it; undefined where all of it does. */
function unreadable(
  { sealer }: Pick<BootContext, 'sealer'>,
  { profile, sequence }: { readonly profile: string; readonly sequence: string },
  join: Join,
): string | undefined {
  const isAsked = credentialOf(join) === 'brokered'
  try {
    mapSecretSettings(join, (sealed, name, field) =>
      isAsked && field.startsWith('settings.')
        ? sealed
        : sealer.open(sealed, secretPlace(profile, sequence, name)),
    )
    return undefined
  } catch (error) {
    if (isPawlError(error, 'key-unreadable')) return faultOfKey(error)
    throw error
  }
}

/** What is wrong, and what mends it, in one line. */
export function faultOfKey({ message }: PawlError): string {
  return `${message}: restore pki/settings.key from the backup that the database came from, else the profile has to be applied again`
}

function withoutSecrets(join: Join): Join {
  return mapSecretSettings(join, () => '')
}

/** Runs a step that needs a session's join. One that does not open is put on record: one event a boot, each try in its timeline. */
export async function notingUnreadable<Got>(context: BootContext, step: () => Promise<Got>): Promise<Got> {
  try {
    return await step()
  } catch (error) {
    if (error instanceof UnreadableJoin) await noteUnreadable(context, error)
    throw error
  }
}

async function noteUnreadable(context: BootContext, { message, of }: UnreadableJoin): Promise<void> {
  const { node, session, stage, profile, kind } = of
  const reason = message.replace(/^the join waits: /, '')
  context.joining?.meter.called('make', 'settings', 0)
  context.spans?.note({
    ...{ session, stage, kind: 'refused', at: context.clock(), seconds: 0 },
    detail: `join: ${reason}`,
  })
  await inTransaction(context, async (work) => {
    // Who waits is alive.
    await touchSession(work.tx, session, work.now)
    const told = await listEvents(work.tx, { session, kind: 'credential-refused', limit: 20 })
    if (told.some(({ detail }) => detail.includes('"cause":"settings"'))) return
    await work.event({
      ...{ kind: 'credential-refused', node, session, actor: 'server', source: null },
      detail: { kind, profile, cause: 'settings', message: reason, means: backendFaults.settings },
    })
  })
}
