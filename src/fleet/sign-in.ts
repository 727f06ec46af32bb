import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import type { RoleName } from '../domain/role.ts'
import { type Claims, readGroups, readPersonName, roleOfGroups } from '../domain/sign-in.ts'
import { tokenFromRandom } from '../domain/token.ts'
import { PawlError } from '../errors.ts'
import type { Tx } from '../storage/database.ts'
import { appendEvent } from '../storage/events.ts'
import {
  deleteEndedSignIns,
  deletePerson,
  deleteSession,
  findPerson,
  findPersonNamed,
  insertSession,
  putPerson,
} from '../storage/identity.ts'
import type { PersonRow } from '../storage/identity-tables.ts'
import { deleteEndedPersonalTokens, findOperator, updateOperator } from '../storage/operators.ts'
import type { Role } from '../storage/tables.ts'
import { attributed, type By, isUniqueViolation } from './change.ts'
import type { SignInSettings } from './sign-in-settings.ts'

/** A browser's session just made; `cookie` is told this once. */
export interface SignedIn {
  readonly name: string
  readonly role: Role
  readonly cookie: string
  readonly expiresAt: Date
}

const maxSessionsPerPerson = 20

/**
 * Signs a person in whom the provider vouches for: what they are called, what their groups may do, and a session. Throws
 * `sign-in-refused` with the reason in words for the person; the event has it too.
 */
export async function signIn(
  context: BootContext,
  settings: SignInSettings,
  claims: Claims,
  source: string,
): Promise<SignedIn> {
  const { name: claimed, role, groups, subject } = admit(context, settings, claims, source)
  const now = context.clock()
  const token = tokenFromRandom(context.randomBytes(33))
  const expiresAt = addSeconds(now, settings.maxSeconds)
  const at = now.toISOString()
  const name = await againOnce(context, async (tx) => {
    const account = { issuer: settings.issuer, subject, name: claimed }
    const person = await personFor(tx, account, context, now)
    if (person === undefined) return undefined
    const { name } = person
    const row = { id: token.id, secret_hash: token.hash, person: person.id, role, source }
    const times = { created_at: at, last_seen_at: at, expires_at: expiresAt.toISOString() }
    await insertSession(tx, { ...row, ...times }, maxSessionsPerPerson)
    const detail = {
      name,
      ...(name === claimed ? {} : { claimed }),
      role,
      groups,
      subject,
      session: token.id,
    }
    await appendEvent(tx, personal('signed-in', now, name, source, detail))
    return name
  })
  if (name === undefined) return refuseSignIn(context, source, 'name-taken', { name: claimed, subject })
  return { name, role, cookie: token.text, expiresAt }
}

/**
 * Runs a transaction again where it took the name or account of one that came first: two first sign-ins of one person, in two
 * windows, have no row yet to wait at, and the second finds what the first has made.
 */
async function againOnce<T>({ storage }: BootContext, work: (tx: Tx) => Promise<T>): Promise<T> {
  try {
    return await storage.transaction(work)
  } catch (error) {
    if (!isUniqueViolation(error)) throw error
    return storage.transaction(work)
  }
}

/** What the claims come to, or why not. */
function admit(
  context: BootContext,
  settings: SignInSettings,
  claims: Claims,
  source: string,
): { name: string; role: RoleName; groups: string[]; subject: string } {
  const subject = claims.sub
  if (typeof subject !== 'string' || subject === '' || subject.length > 255)
    return refuseSignIn(context, source, 'no-subject', {})
  const named = readPersonName(claims, settings.nameClaim)
  if (typeof named === 'string') return refuseSignIn(context, source, named, { subject })
  const { name } = named
  const groups = readGroups(claims, settings.groupsClaim)
  if (typeof groups === 'string') return refuseSignIn(context, source, groups, { name, subject })
  const mapped = roleOfGroups(groups, settings.roles)
  if (mapped === undefined) return refuseSignIn(context, source, 'no-role', { name, subject })
  return { name, subject, ...mapped }
}

/** Why a sign-in is not accepted, in words for the person who tried. */
const reasons = {
  'not-begun-here': 'this sign-in was not begun in this browser, or more than ten minutes ago',
  'no-subject': 'the provider did not say which account this is',
  'no-name': 'the provider did not say the name that this server asks for (setting oidcNameClaim)',
  'name-malformed': 'the name that the provider gives has characters that a log cannot tell apart',
  'email-unverified': 'the provider has not verified the e-mail address of this account',
  'no-groups': 'the provider did not say any groups (setting oidcGroupsClaim, and the scopes)',
  'groups-elsewhere': 'the account is in so many groups that the provider does not list them',
  'groups-malformed': 'the groups that the provider gives are no list of names',
  'no-role': 'none of the groups of this account has a role here (setting oidcRoles)',
  'name-taken': 'another account of the provider has had this name here',
} as const

const hints: Partial<Record<keyof typeof reasons, string>> = {
  'not-begun-here': 'begin again',
  'name-taken': 'an admin frees it with pawl operator person remove',
}

/** Puts a refused sign-in on the record, bounded like all that strangers cause, and throws it. */
export function refuseSignIn(
  context: BootContext,
  source: string,
  cause: keyof typeof reasons,
  about: { readonly name?: string; readonly subject?: string },
): never {
  recordRefusedSignIn(context, source, cause, about)
  throw new PawlError('sign-in-refused', reasons[cause], {
    hint: hints[cause] ?? 'ask an admin of this server',
  })
}

/** Puts a refused sign-in on the record. The actor is the person where the provider vouched for one. */
export function recordRefusedSignIn(
  context: BootContext,
  source: string,
  cause: string,
  about: Readonly<Record<string, string | undefined>>,
): void {
  const detail = { cause, ...about }
  const actor = about.name === undefined ? 'unknown' : `operator:${about.name}`
  context.refusals.record({
    kind: 'sign-in-refused',
    cause,
    actor,
    node: null,
    session: null,
    source,
    detail,
  })
}

/**
 * The person with this account; made where there is none. Undefined where the name is of another account of this provider. A
 * name is of one account for good, and a person keeps their first one, whatever the provider calls them later: so the record
 * and the rule of two persons know them again.
 */
async function personFor(
  tx: Tx,
  { issuer, subject, name }: { issuer: string; subject: string; name: string },
  context: BootContext,
  now: Date,
): Promise<PersonRow | undefined> {
  const at = now.toISOString()
  const found = await findPerson(tx, issuer, subject)
  const named = found === undefined ? await findPersonNamed(tx, name) : undefined
  // Between the two looks, another window of the same person can have made them.
  const known = named?.issuer === issuer && named.subject === subject ? named : found
  if (known === undefined && named !== undefined) {
    if (named.issuer === issuer) return undefined
    await deletePerson(tx, named.id) // of a provider of before: what that person had opens nothing any more
  }
  const id = Buffer.from(context.randomBytes(9)).toString('base64url')
  const person = { ...(known ?? { id, issuer, subject, name, first_seen_at: at }), last_seen_at: at }
  await putPerson(tx, person)
  return person
}

/** Ends the session of whoever signs out; nothing happens where it is over. */
export async function signOut(context: BootContext, by: By, id: string): Promise<void> {
  await context.storage.transaction(async (tx) => {
    if (!(await deleteSession(tx, id))) return
    await appendEvent(tx, event('signed-out', context.clock(), by, { session: id }))
  })
}

/** Takes back the personal token that asks. Throws `conflict` for what an admin made. */
export async function revokeOwnToken(
  context: BootContext,
  by: By,
  { how, id }: { readonly how: string; readonly id: string },
): Promise<void> {
  const row = how === 'token' ? await findOperator(context.storage.db, id) : undefined
  if (row === undefined || row.person === null) {
    throw new PawlError('conflict', 'this was made by an admin, and is not ended by signing out', {
      hint: 'an admin takes it back with pawl operator token revoke or pawl operator certificate revoke',
    })
  }
  const now = context.clock()
  await context.storage.transaction(async (tx) => {
    await updateOperator(tx, id, { revoked_at: now.toISOString() })
    await appendEvent(tx, event('signed-out', now, by, { token: id }))
  })
}

const keepPersonalTokensSeconds = 7 * 86_400

/** Removes what is over: sessions, command lines that nobody confirmed, and people's tokens a week later. */
export async function tidySignIns(
  context: BootContext,
  settings: Pick<SignInSettings, 'idleSeconds'> | undefined,
): Promise<void> {
  const now = context.clock()
  const idleSince = settings === undefined ? new Date(0) : addSeconds(now, -settings.idleSeconds)
  await deleteEndedSignIns(context.storage.db, now, idleSince)
  await deleteEndedPersonalTokens(context.storage.db, addSeconds(now, -keepPersonalTokensSeconds))
}

type Kind = 'signed-out' | 'sign-in-ended' | 'login-approved' | 'login-denied'

/** An event of whoever does something here. */
export function event(kind: Kind, at: Date, by: By, detail: Readonly<Record<string, unknown>>) {
  return { kind, at, node: null, session: null, ...attributed(by, detail) }
}

function personal(
  kind: 'signed-in',
  at: Date,
  name: string,
  source: string,
  detail: Readonly<Record<string, unknown>>,
) {
  return { kind, at, node: null, session: null, actor: `operator:${name}`, source, detail }
}
