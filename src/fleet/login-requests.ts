import type { BootContext } from '../boot/context.ts'
import { countingGroup, countingUnit } from '../domain/address.ts'
import { addSeconds } from '../domain/clock.ts'
import { hashesEqual, hashSecret, parseToken, type SecretHash, tokenFromRandom } from '../domain/token.ts'
import { PawlError } from '../errors.ts'
import type { Tx } from '../storage/database.ts'
import { appendEvent } from '../storage/events.ts'
import {
  countLoginRequests,
  decideLogin,
  dropOldestLogin,
  findLoginRequest,
  findPersonById,
  findWaitingLogin,
  insertLoginRequest,
  notePoll,
  takeLogin,
} from '../storage/identity.ts'
import type { LoginRequestRow } from '../storage/identity-tables.ts'
import { insertOperator } from '../storage/operators.ts'
import type { Role } from '../storage/tables.ts'
import type { By } from './change.ts'
import { event } from './sign-in.ts'
import type { SignInSettings } from './sign-in-settings.ts'

/**
 * Signing in on a machine without a browser, as RFC 8628 does it: the command line shows a code, a person signs in
 * elsewhere, reads the code off, sees who asks from where, and confirms; the command line then gets a token of the
 * person's, short-lived and revocable. The code opens nothing by itself, and the command line's own secret nothing before
 * the person said so.
 */

/** A command line that began to wait. */
export interface BegunLogin {
  /** The secret that the command line asks with. */
  readonly request: string
  /** What the person reads off: 50 bits, ten minutes. */
  readonly code: string
  readonly url: string
  readonly expiresAt: string
  readonly intervalSeconds: number
}

/** What a command line that asks again is told. */
export type LoginAnswer =
  | { readonly state: 'waiting'; readonly intervalSeconds: number }
  | { readonly state: 'denied' }
  | {
      readonly state: 'approved'
      readonly name: string
      readonly role: Role
      readonly expiresAt: string
      readonly token: string
    }

/** How long a code is good for. */
const lifetimeSeconds = 600
const intervalSeconds = 5
const maxWaiting = 500
const maxWaitingFromOnePlace = 5
const maxWaitingFromOneGroup = 50

/** Crockford's alphabet without the letters that look like others; 10 characters of 5 bits are 50 bits. */
const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'

/** Takes in a command line. Throws `overloaded` where too many wait already from its address or its network. */
export async function beginLogin(
  context: BootContext,
  settings: SignInSettings,
  { label, source }: { readonly label: string; readonly source: string },
): Promise<BegunLogin> {
  const now = context.clock()
  const token = tokenFromRandom(context.randomBytes(33))
  const code = newCode(context.randomBytes(10))
  const expiresAt = addSeconds(now, lifetimeSeconds).toISOString()
  const unit = countingUnit(source)
  await context.storage.transaction(async (tx) => {
    await makeRoom(tx, unit, now)
    await insertLoginRequest(tx, {
      id: token.id,
      secret_hash: token.hash,
      code,
      label,
      source,
      source_unit: unit,
      created_at: now.toISOString(),
      expires_at: expiresAt,
      polled_at: null,
      state: 'waiting',
      person: null,
      role: null,
    })
  })
  return { request: token.text, code, url: `${settings.operatorUrl}/auth/device`, expiresAt, intervalSeconds }
}

/**
 * Sees to it that one more may wait: nobody has more than their part of the room, and where all of it is taken, the network that
 * has most of it gives up its oldest. So who has many addresses keeps out nobody but themselves.
 */
async function makeRoom(tx: Tx, unit: string, now: Date): Promise<void> {
  const units = await countLoginRequests(tx, now)
  const groups = Map.groupBy(units, ([one]) => countingGroup(one))
  const sum = (some: readonly (readonly [string, number])[] | undefined): number =>
    (some ?? []).reduce((all, [, count]) => all + count, 0)
  const here = sum(groups.get(countingGroup(unit)))
  const tooMany = new PawlError('overloaded', 'too many command lines wait for somebody to sign in', {
    retryAfterSeconds: 60,
  })
  if ((units.get(unit) ?? 0) >= maxWaitingFromOnePlace || here >= maxWaitingFromOneGroup) throw tooMany
  if (sum([...units]) < maxWaiting) return
  const most = Math.max(...[...groups.values()].map(sum))
  const largest = [...groups.values()].filter((some) => sum(some) === most).flat()
  const gaveUp =
    here < most &&
    (await dropOldestLogin(
      tx,
      largest.map(([one]) => one),
    ))
  if (!gaveUp) throw tooMany
}

function newCode(bytes: Uint8Array): string {
  const digits = [...bytes].map((byte) => alphabet[byte & 31]).join('')
  return `${digits.slice(0, 5)}-${digits.slice(5)}`
}

/** Reads a code as a person types it; undefined where it can be none. */
export function parseLoginCode(text: string): string | undefined {
  const plain = text.toLowerCase().replace(/[\s-]/g, '').replace(/o/g, '0').replace(/[il]/g, '1')
  return plain.length === 10 && [...plain].every((letter) => alphabet.includes(letter))
    ? `${plain.slice(0, 5)}-${plain.slice(5)}`
    : undefined
}

/** Who waits under a code, for the page where a person confirms it. Throws `not-found`. */
export async function waitingLogin(
  context: BootContext,
  code: string,
): Promise<Pick<LoginRequestRow, 'code' | 'label' | 'source' | 'created_at'>> {
  const waiting = await findWaitingLogin(context.storage.db, code, context.clock())
  if (waiting === undefined) throw noSuchCode()
  return waiting
}

/** A person's decision about a code. Throws `not-found` where someone was first, or its time is over. */
export async function decide(
  context: BootContext,
  by: By,
  person: string,
  { code, approve }: { readonly code: string; readonly approve: boolean },
): Promise<void> {
  const now = context.clock()
  await context.storage.transaction(async (tx) => {
    const decision = approve
      ? ({ state: 'approved', person, role: by.role } as const)
      : ({ state: 'denied', person: null, role: null } as const)
    const row = await decideLogin(tx, code, decision, now)
    if (row === undefined) throw noSuchCode()
    const detail = { request: row.id, label: row.label, from: row.source }
    await appendEvent(tx, event(approve ? 'login-approved' : 'login-denied', now, by, detail))
  })
}

/**
 * What became of a request, for the command line that holds its secret. Once: of two that ask at the same time one gets
 * the token. Throws `not-found` where the secret is wrong or its time is over.
 */
export async function finishLogin(
  context: BootContext,
  settings: SignInSettings,
  { request, source }: { readonly request: string; readonly source: string },
): Promise<LoginAnswer> {
  const now = context.clock()
  const presented = parseToken(request)
  const { db } = context.storage
  const row = presented === undefined ? undefined : await findLoginRequest(db, presented.id, now)
  const right = presented !== undefined && row !== undefined
  if (!right || !hashesEqual(hashSecret(presented.secret), row.secret_hash as SecretHash))
    throw noSuchRequest()
  if (row.state === 'waiting') {
    const early =
      row.polled_at !== null && now.getTime() - Date.parse(row.polled_at) < (intervalSeconds - 1) * 1000
    if (!early) await notePoll(db, row.id, now) // who asks all the time has nothing written
    return { state: 'waiting', intervalSeconds: early ? 2 * intervalSeconds : intervalSeconds }
  }
  return context.storage.transaction((tx) => issue(tx))

  async function issue(tx: Parameters<typeof takeLogin>[0]): Promise<LoginAnswer> {
    const taken = await takeLogin(tx, presented?.id ?? '')
    if (taken === undefined) throw noSuchRequest()
    if (taken.person === null || taken.role === null) return { state: 'denied' }
    const person = await findPersonById(tx, taken.person)
    if (person === undefined || person.issuer !== settings.issuer) throw noSuchRequest()
    const token = tokenFromRandom(context.randomBytes(33))
    const expiresAt = addSeconds(now, settings.loginTokenSeconds).toISOString()
    const { name } = person
    const { role } = taken
    await insertOperator(tx, {
      id: token.id,
      name,
      role,
      secret_hash: token.hash,
      created_at: now.toISOString(),
      expires_at: expiresAt,
      revoked_at: null,
      scope: null,
      person: person.id,
    })
    const detail = { id: token.id, name, role, expiresAt, scope: null, login: taken.id }
    const by = { actor: `operator:${name}`, source }
    await appendEvent(tx, { kind: 'operator-created', at: now, node: null, session: null, ...by, detail })
    return { state: 'approved', name, role, expiresAt, token: token.text }
  }
}

function noSuchCode(): PawlError {
  return new PawlError('not-found', 'no command line waits under this code', {
    hint: 'codes are good for ten minutes and once: look at what pawl login shows, or run it again',
  })
}

function noSuchRequest(): PawlError {
  return new PawlError('not-found', 'this sign-in is over', { hint: 'run pawl login again' })
}
