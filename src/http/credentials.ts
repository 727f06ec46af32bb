import { createHmac } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import { hashesEqual, hashSecret, parseToken, type SecretHash } from '../domain/token.ts'
import type { SignInSettings } from '../fleet/sign-in-settings.ts'
import { findCertificate, findPersonById, findSession } from '../storage/identity.ts'
import { findOperator } from '../storage/operators.ts'
import type { Role } from '../storage/tables.ts'
import { clientCertificateOf } from './client-certificate.ts'
import { bearer } from './routes/boot.ts'

/** Who asks, and by what. */
export interface Operator {
  /** As events have it behind `operator:`. */
  readonly name: string
  readonly role: Role
  readonly scope: string | null
  readonly how: 'token' | 'session' | 'certificate'
  /** Of the token, the session or the certificate. */
  readonly id: string
  readonly expiresAt: string | null
  /** What changes by cookie must carry; null where there is no cookie. */
  readonly csrf: string | null
  /** When it was used last, as far as it is written down. */
  readonly lastUsedAt: string | null
  /** The person, where it is one. */
  readonly person: string | null
}

/** Why what was presented opens nothing. The message is for whoever presented it. */
export interface Fault {
  /** For the event; undefined where nothing was presented at all. */
  readonly cause?: string
  readonly message: string
  /** What is known of it, for the event. */
  readonly detail?: Readonly<Record<string, string>>
}

/** The browser's cookie. The prefix has browsers take it from this host alone, over HTTPS, for every path (RFC 6265bis §4.1.3). */
export const sessionCookie = '__Host-pawl'

/** What the name of a machine with a certificate begins with; no token's name has a slash. */
export const certificatePrefix = 'cert/'

const unknown = 'no valid operator token was given'

/** What a token is compared with that names none of ours, so that a guess takes the same way through the code. */
const nobody = '0'.repeat(64) as SecretHash

/**
 * Finds out who asks: by the bearer token, else by the cookie, else by the client certificate of the connection. The first
 * that is there decides: what is wrong is not made good by another. Every time the database is asked, so that a revocation
 * holds from the next request on, at every replica. What is wrong is told to whoever has shown the secret, and to nobody else.
 */
export async function identify(
  context: BootContext,
  signIn: SignInSettings | undefined,
  request: FastifyRequest,
): Promise<Operator | Fault> {
  if (request.headers.authorization !== undefined) return byToken(context, signIn, bearer(request))
  const cookie = cookieOf(request, sessionCookie)
  if (cookie !== undefined) return bySession(context, signIn, cookie)
  return byCertificate(context, request)
}

/** Whether `found` is somebody. */
export function isOperator(found: Operator | Fault): found is Operator {
  return 'role' in found
}

async function byToken(
  context: BootContext,
  signIn: SignInSettings | undefined,
  text: string | undefined,
): Promise<Operator | Fault> {
  const presented = text === undefined ? undefined : parseToken(text)
  if (presented === undefined) return { cause: 'malformed-token', message: unknown }
  const row = await findOperator(context.storage.db, presented.id)
  const right = hashesEqual(hashSecret(presented.secret), (row?.secret_hash ?? nobody) as SecretHash)
  if (row === undefined || !right) return { cause: 'unknown-token', message: unknown }
  // From here on the holder has shown the secret: what is wrong with the token may be told.
  const { id, name, role, scope, person } = row
  const fault = (cause: string, message: string): Fault => ({ cause, message, detail: { token: id, name } })
  if (row.revoked_at !== null) return fault('revoked-token', 'the operator token was revoked')
  if (isOver(row.expires_at, context.clock()))
    return fault('expired-token', `the operator token expired at ${row.expires_at}`)
  if (person !== null && !(await isOfProvider(context, signIn, person)))
    return fault('other-provider', 'the operator token is from a provider that is not in use any more')
  const [expiresAt, lastUsedAt] = [row.expires_at, row.last_used_at]
  return { name, role, scope, how: 'token', id, expiresAt, csrf: null, lastUsedAt, person }
}

/** Whether a person's token still has a person, of the provider that is in use. */
async function isOfProvider(
  context: BootContext,
  signIn: SignInSettings | undefined,
  person: string,
): Promise<boolean> {
  const row = await findPersonById(context.storage.db, person)
  return row !== undefined && row.issuer === signIn?.issuer
}

/** Reads a session's cookie; for the pages, which have no role. */
export async function bySession(
  context: BootContext,
  signIn: SignInSettings | undefined,
  text: string,
): Promise<Operator | Fault> {
  const presented = parseToken(text)
  const malformed = { cause: 'malformed-session', message: 'the session is not known' }
  if (presented === undefined || signIn === undefined) return malformed
  const row = await findSession(context.storage.db, presented.id)
  const right = hashesEqual(hashSecret(presented.secret), (row?.secret_hash ?? nobody) as SecretHash)
  // One that was revoked or signed out is gone: its browser learns the same as one that made its cookie up.
  if (row === undefined || !right || row.issuer !== signIn.issuer)
    return { cause: 'unknown-session', message: 'the session is not known, or it was ended' }
  const { id, name, role, person } = row
  const idleUntil = addSeconds(new Date(row.last_seen_at), signIn.idleSeconds).toISOString()
  const over = [row.expires_at, idleUntil].find((end) => isOver(end, context.clock()))
  if (over !== undefined)
    return {
      cause: 'expired-session',
      message: `the session ended at ${over}`,
      detail: { session: id, name },
    }
  const csrf = csrfOf(presented.secret)
  const [expiresAt, lastUsedAt] = [row.expires_at, row.last_seen_at]
  return { name, role, scope: null, how: 'session', id, expiresAt, csrf, lastUsedAt, person }
}

/** Bound to the session, and of no use for making its cookie. */
function csrfOf(secret: string): string {
  return createHmac('sha256', secret).update('pawl csrf').digest('base64url')
}

/** The handshake has shown that the client has the key. */
async function byCertificate(context: BootContext, request: FastifyRequest): Promise<Operator | Fault> {
  const presented = clientCertificateOf(request)
  if (presented === undefined) return { message: unknown }
  const { fingerprint, trusted } = presented
  const row = await findCertificate(context.storage.db, fingerprint)
  if (row === undefined || !trusted)
    return {
      cause: trusted ? 'unknown-certificate' : 'other-certificate',
      message: `the client certificate is not one that this server issued for operators`,
      detail: { fingerprint },
    }
  const { id, name, role, scope } = row
  const fault = (cause: string, message: string): Fault => ({
    cause,
    message,
    detail: { certificate: id, name },
  })
  if (row.revoked_at !== null) return fault('revoked-certificate', 'the client certificate was revoked')
  if (isOver(row.expires_at, context.clock()))
    return fault('expired-certificate', `the client certificate expired at ${row.expires_at}`)
  const [expiresAt, lastUsedAt] = [row.expires_at, row.last_used_at]
  return {
    name: `${certificatePrefix}${name}`,
    role,
    scope,
    how: 'certificate',
    id,
    expiresAt,
    csrf: null,
    lastUsedAt,
    person: null,
  }
}

/** A cookie's value; undefined where there is none. Ours are base64url: nothing in them is encoded. */
export function cookieOf({ headers }: FastifyRequest, name: string): string | undefined {
  const pairs = (headers.cookie ?? '').split(';').map((pair) => pair.trim())
  return pairs.find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1)
}

function isOver(end: string | null, now: Date): boolean {
  return end !== null && Date.parse(end) <= now.getTime()
}
