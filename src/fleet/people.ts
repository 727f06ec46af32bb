import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import { quote } from '../domain/node.ts'
import { PawlError } from '../errors.ts'
import { appendEvent } from '../storage/events.ts'
import {
  deletePerson,
  deleteSession,
  findPersonNamed,
  findSession,
  listPeople,
  listSessions,
} from '../storage/identity.ts'
import { lockOperators, updateOperator } from '../storage/operators.ts'
import type { Role } from '../storage/tables.ts'
import type { By } from './change.ts'
import { event } from './sign-in.ts'
import type { SignInSettings } from './sign-in-settings.ts'

/** A browser's session as operators see it. */
export interface SessionView {
  readonly id: string
  readonly name: string
  readonly role: Role
  /** The address that signed in. */
  readonly source: string
  readonly createdAt: string
  /** To the minute. */
  readonly lastSeenAt: string
  readonly expiresAt: string
}

/** Shows the sessions that are not over, the latest first. */
export async function showSessions(
  context: BootContext,
  settings: Pick<SignInSettings, 'idleSeconds'> | undefined,
): Promise<SessionView[]> {
  if (settings === undefined) return []
  const now = context.clock()
  const rows = await listSessions(context.storage.db, now, addSeconds(now, -settings.idleSeconds))
  return rows.map(({ id, name, role, source, created_at, last_seen_at, expires_at }) => ({
    id,
    name,
    role,
    source,
    createdAt: created_at,
    lastSeenAt: last_seen_at,
    expiresAt: expires_at,
  }))
}

/** Ends somebody's session, at once. Throws `not-found`. */
export async function endSession(context: BootContext, by: By, id: string): Promise<void> {
  await context.storage.transaction(async (tx) => {
    const session = await findSession(tx, id)
    if (session === undefined) {
      throw new PawlError('not-found', `no session has the id ${quote(id)}`, {
        hint: 'list them with pawl operator session list',
      })
    }
    await deleteSession(tx, id)
    await appendEvent(tx, event('sign-in-ended', context.clock(), by, { session: id, name: session.name }))
  })
}

/** A person who signed in here once. */
export interface PersonView {
  readonly name: string
  readonly issuer: string
  readonly subject: string
  readonly firstSeenAt: string
  readonly lastSeenAt: string
}

/** Shows everyone who signed in, by name. */
export async function showPeople(context: BootContext): Promise<PersonView[]> {
  return (await listPeople(context.storage.db)).map(
    ({ name, issuer, subject, first_seen_at, last_seen_at }) => ({
      name,
      issuer,
      subject,
      firstSeenAt: first_seen_at,
      lastSeenAt: last_seen_at,
    }),
  )
}

/** Ends all that a person has here, at once, and frees the name. Throws `not-found`. */
export async function removePerson(
  context: BootContext,
  by: By,
  name: string,
): Promise<{ name: string; tokens: number }> {
  return context.storage.transaction(async (tx) => {
    const person = await findPersonNamed(tx, name)
    if (person === undefined) {
      throw new PawlError('not-found', `nobody named ${quote(name)} has signed in`, {
        hint: 'list them with pawl operator person list',
      })
    }
    const now = context.clock()
    const tokens = (await lockOperators(tx, context.storage.dialect)).filter(
      (row) => row.person === person.id && row.revoked_at === null,
    )
    for (const { id } of tokens) await updateOperator(tx, id, { revoked_at: now.toISOString() })
    await deletePerson(tx, person.id)
    const detail = { name, subject: person.subject, tokens: tokens.map(({ id }) => id) }
    await appendEvent(tx, event('sign-in-ended', now, by, detail))
    return { name, tokens: tokens.length }
  })
}
