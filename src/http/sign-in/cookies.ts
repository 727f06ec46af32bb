import type { FastifyReply, FastifyRequest } from 'fastify'
import type { SettingsSealer } from '../../boot/settings-sealer.ts'
import { cookieOf, sessionCookie } from '../credentials.ts'
import type { Begun } from './provider.ts'

/**
 * Two cookies, both `__Host-`, Secure, HttpOnly and SameSite=Lax: Strict would not be sent when the browser comes back from
 * the provider, nor when it follows a link from a chat. What keeps other sites from changing anything is in cross-site.ts.
 */
const attributes = 'Path=/; Secure; HttpOnly; SameSite=Lax'
const beginCookie = '__Host-pawl-sign-in'

/** How long a person may take at the provider. */
const beginSeconds = 600

/** What the browser that began a sign-in keeps until it comes back: nobody else's code fits it. */
export interface Beginning extends Omit<Begun, 'url'> {
  /** Where to go afterwards: a path of ours. */
  readonly to: string
  readonly at: number
}

/** Gives the browser its session. */
export function setSession(reply: FastifyReply, token: string, maxSeconds: number): void {
  reply.header('set-cookie', `${sessionCookie}=${token}; ${attributes}; Max-Age=${maxSeconds}`)
}

/** Takes the session from the browser. */
export function clearSession(reply: FastifyReply): void {
  reply.header('set-cookie', `${sessionCookie}=; ${attributes}; Max-Age=0`)
}

/** Has the browser keep what it began. */
export function setBeginning(reply: FastifyReply, sealer: SettingsSealer, beginning: Beginning): void {
  const sealed = sealer.seal(JSON.stringify(beginning), beginCookie)
  reply.header('set-cookie', `${beginCookie}=${sealed}; ${attributes}; Max-Age=${beginSeconds}`)
}

/** What this browser began; undefined where it began nothing, or too long ago. */
export function beginningOf(
  request: FastifyRequest,
  sealer: SettingsSealer,
  now: Date,
): Beginning | undefined {
  const sealed = cookieOf(request, beginCookie)
  if (sealed === undefined || sealed.length > 4096) return undefined
  try {
    const beginning = JSON.parse(sealer.open(sealed, beginCookie)) as Beginning // sealed by setBeginning
    return now.getTime() - beginning.at < beginSeconds * 1000 ? beginning : undefined
  } catch {
    return undefined
  }
}

/** Takes it from the browser: it is good for one answer. */
export function clearBeginning(reply: FastifyReply): void {
  reply.header('set-cookie', `${beginCookie}=; ${attributes}; Max-Age=0`)
}
