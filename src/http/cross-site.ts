import { timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { PawlError } from '../errors.ts'
import type { SignInSettings } from '../fleet/sign-in-settings.ts'
import type { Operator } from './credentials.ts'

/** The header that carries the session's proof; a page reads it from whoami. */
export const csrfHeader = 'x-pawl-csrf'

/**
 * A browser sends cookies and client certificates with whatever any page makes it send. By cookie, a change must carry the
 * session's proof in a header, which no other site can write or read, and come from a page of ours as the browser says.
 * Client certificates are for machines: what a browser sends by one changes nothing. A bearer token is never sent by itself.
 */
export function checkSameSite(
  { how, csrf }: Operator,
  signIn: SignInSettings | undefined,
  request: FastifyRequest,
): void {
  if (how === 'token' || isSafe(request.method)) return
  if (how === 'certificate') {
    if (request.headers.origin === undefined && request.headers['sec-fetch-site'] === undefined) return
    throw new PawlError('cross-site', 'a client certificate changes nothing from within a browser', {
      hint: 'sign in, or send a token',
    })
  }
  if (!isProof(request.headers[csrfHeader], csrf)) {
    throw new PawlError('cross-site', `a change by cookie needs the header ${csrfHeader}`, {
      hint: 'send what GET /api/v1/whoami has as csrf',
    })
  }
  checkOwnPage(signIn, request)
}

/** Throws unless the browser says that one of our pages sent this. Every browser since 2020 says it with every POST. */
export function checkOwnPage(signIn: SignInSettings | undefined, { headers }: FastifyRequest): void {
  const { origin, 'sec-fetch-site': site } = headers
  const said = origin !== undefined || site !== undefined
  const ours = origin === undefined || origin === signIn?.operatorUrl
  if (said && ours && (site === undefined || site === 'same-origin')) return
  throw new PawlError('cross-site', 'this did not come from a page of this server', {
    hint: `use the address ${signIn?.operatorUrl ?? 'of the setting operatorUrl'}`,
  })
}

/** Compares the proof that was sent with the session's, in constant time. */
export function isProof(sent: unknown, csrf: string | null): boolean {
  if (typeof sent !== 'string' || csrf === null) return false
  const [a, b] = [Buffer.from(sent), Buffer.from(csrf)]
  return a.length === b.length && timingSafeEqual(a, b)
}

function isSafe(method: string): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS'
}
