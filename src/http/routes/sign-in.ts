import type { FastifyReply, FastifyRequest } from 'fastify'
import Type from '../../domain/schema.ts'
import type { Claims } from '../../domain/sign-in.ts'
import { isPawlError, PawlError } from '../../errors.ts'
import { decide, parseLoginCode, waitingLogin } from '../../fleet/login-requests.ts'
import { recordRefusedSignIn, refuseSignIn, signIn, signOut } from '../../fleet/sign-in.ts'
import { bySession, cookieOf, isOperator, type Operator, sessionCookie } from '../credentials.ts'
import { checkOwnPage, isProof } from '../cross-site.ts'
import { asPawlError, problemOf } from '../problem.ts'
import {
  type Beginning,
  beginningOf,
  clearBeginning,
  clearSession,
  setBeginning,
  setSession,
} from '../sign-in/cookies.ts'
import type { SignIn } from '../sign-in/options.ts'
import {
  codePage,
  confirmPage,
  decidedPage,
  errorPage,
  pageHeaders,
  type Signed,
  signedInPage,
  signedOutPage,
} from '../sign-in/pages.ts'
import { sourceOf } from '../source.ts'
import { type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const anyone = { config: { role: 'anyone' } } as const
const form = (fields: Readonly<Record<string, ReturnType<typeof Type.String>>> = {}) =>
  Type.Object({ csrf: Type.String({ maxLength: 100 }), ...fields }, { additionalProperties: false })
const codeField = Type.String({ maxLength: 20 })

/** What the document has of these pages: nothing. They are for browsers. */
const hidden = (operationId: string, summary: string) => ({
  ...op('operators', operationId, summary),
  hide: true,
})

/** The pages of people who sign in with a browser. All of them on one screen; what each does is below. */
export function signInRoutes(app: OperatorApp, parts: OperatorParts): void {
  const pages = openPages(parts)
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string', bodyLimit: 4096 },
    async (_request: FastifyRequest, body: string) => Object.fromEntries(new URLSearchParams(body)),
  )
  app.addHook('onRequest', async (_request, reply) => void reply.headers(pageHeaders))
  app.setErrorHandler((error, request, reply) => answerError(parts, asPawlError(error), request, reply))
  const route = { ...anyone, schema: hidden('showWhoIsSignedIn', 'Says who is signed in in this browser.') }
  app.get('/auth/account', route, pages.home)
  app.get(
    '/auth/login',
    { ...anyone, schema: hidden('beginSignIn', 'Sends a browser to the provider.') },
    pages.begin,
  )
  app.get(
    '/auth/callback',
    { ...anyone, schema: hidden('finishSignIn', 'Takes a browser back from the provider.') },
    pages.finish,
  )
  const logout = { ...hidden('signOut', "Ends the browser's session."), body: form() }
  app.post('/auth/logout', { ...anyone, schema: logout }, pages.signOut)
  app.get('/auth/device', { ...anyone, schema: hidden('askLoginCode', 'Asks for a code.') }, pages.askCode)
  const lookUp = { ...hidden('lookUpLoginCode', 'Shows who waits.'), body: form({ code: codeField }) }
  app.post('/auth/device', { ...anyone, schema: lookUp }, (request, reply) =>
    pages.lookUp(request, reply, request.body as { csrf: string; code: string }),
  )
  const decision = Type.String({ pattern: '^(approve|deny)$' })
  const decideOn = {
    ...hidden('decideLoginCode', 'Lets a command line in, or not.'),
    body: form({ code: codeField, decision }),
  }
  app.post('/auth/device/decide', { ...anyone, schema: decideOn }, (request, reply) =>
    pages.decide(request, reply, request.body as { csrf: string; code: string; decision: string }),
  )
}

type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply>

function openPages({ context, auth, signIn: ready }: OperatorParts) {
  const show = (reply: FastifyReply, text: string): FastifyReply =>
    reply.type('text/html; charset=utf-8').send(text)

  /** Whoever this browser is signed in as; a cookie that opens nothing is taken away. */
  async function personOf(request: FastifyRequest, reply: FastifyReply): Promise<Operator | undefined> {
    const cookie = cookieOf(request, sessionCookie)
    if (cookie === undefined) return undefined
    const found = await bySession(context, ready?.settings, cookie)
    if (isOperator(found)) {
      auth.noteUse(found, sourceOf(request))
      return found
    }
    clearSession(reply)
    if (found.cause !== 'expired-session') auth.refuse(request, found)
    return undefined
  }

  /** The same, for a form: it must be ours, of this session. */
  async function senderOf(request: FastifyRequest, reply: FastifyReply, csrf: string): Promise<Operator> {
    const person = await personOf(request, reply)
    if (person === undefined)
      throw new PawlError('unauthenticated', 'nobody is signed in any more', { hint: 'sign in again' })
    if (!isProof(csrf, person.csrf))
      throw new PawlError('cross-site', 'the form is of another session', {
        hint: 'go back, load the page again',
      })
    checkOwnPage(ready?.settings, request)
    return person
  }

  const home: Handler = async (request, reply) => {
    const person = await personOf(request, reply)
    return show(
      reply,
      person === undefined ? signedOutPage(ready !== undefined) : signedInPage(signedOf(person)),
    )
  }

  const begin: Handler = async (request, reply) => {
    const { settings, provider, sealer } = need(ready)
    const { url, ...begun } = await provider.begin(callbackOf(settings.operatorUrl))
    const { to } = request.query as { to?: unknown }
    setBeginning(reply, sealer, { ...begun, to: ownPath(to), at: context.clock().getTime() })
    return reply.redirect(url, 302)
  }

  const finish: Handler = async (request, reply) => {
    const { settings, provider, sealer } = need(ready)
    const source = sourceOf(request)
    auth.failures.refuseMore(source)
    const beginning = beginningOf(request, sealer, context.clock())
    clearBeginning(reply)
    try {
      if (beginning === undefined) return refuseSignIn(context, source, 'not-begun-here', {})
      const claims = await vouched(
        beginning,
        new URL(callbackOf(settings.operatorUrl) + queryOf(request)),
        source,
      )
      const signed = await signIn(context, settings, claims, source)
      await endBefore(request, source)
      setSession(reply, signed.cookie, settings.maxSeconds)
      return reply.redirect(beginning.to, 303)
    } catch (error) {
      if (isPawlError(error, 'sign-in-refused')) auth.failures.count(source)
      throw error
    }

    /** What the provider says of the person; what it says is wrong, or is wrong with what it says, is on the record. */
    async function vouched(begun: Beginning, callback: URL, from: string): Promise<Claims> {
      try {
        refuseFailed(callback)
        return await provider.finish(callback, begun)
      } catch (error) {
        if (!isPawlError(error)) throw error
        const cause = error.code === 'sign-in-refused' ? 'provider-refused' : 'provider-unreachable'
        recordRefusedSignIn(context, from, cause, { reason: error.internal })
        throw error
      }
    }
  }

  /** Whoever signs in anew leaves no session of before behind. */
  async function endBefore(request: FastifyRequest, source: string): Promise<void> {
    const cookie = cookieOf(request, sessionCookie)
    const found = cookie === undefined ? undefined : await bySession(context, ready?.settings, cookie)
    if (found !== undefined && isOperator(found)) await signOut(context, byOf(found, source), found.id)
  }

  const leave: Handler = async (request, reply) => {
    const { csrf } = request.body as { csrf: string } // checked by its schema
    const person = await senderOf(request, reply, csrf)
    await signOut(context, byOf(person, sourceOf(request)), person.id)
    clearSession(reply)
    return reply.redirect('/auth/account', 303)
  }

  const askCode: Handler = async (request, reply) => {
    need(ready)
    const person = await personOf(request, reply)
    if (person === undefined) return reply.redirect('/auth/login?to=/auth/device', 302)
    return show(reply, codePage(signedOf(person)))
  }

  async function lookUp(
    request: FastifyRequest,
    reply: FastifyReply,
    { csrf, code }: { csrf: string; code: string },
  ): Promise<FastifyReply> {
    const person = await senderOf(request, reply, csrf)
    auth.failures.refuseMore(sourceOf(request))
    const waiting = await known(request, () => waitingLogin(context, parseLoginCode(code) ?? ''))
    return show(reply, confirmPage(signedOf(person), waiting))
  }

  async function decideOn(
    request: FastifyRequest,
    reply: FastifyReply,
    { csrf, code, decision }: { csrf: string; code: string; decision: string },
  ): Promise<FastifyReply> {
    const person = await senderOf(request, reply, csrf)
    auth.failures.refuseMore(sourceOf(request))
    const asked = { code: parseLoginCode(code) ?? '', approve: decision === 'approve' }
    const by = byOf(person, sourceOf(request))
    await known(request, () => decide(context, by, person.person ?? '', asked))
    return show(reply, decidedPage(asked.approve))
  }

  /** Counts codes that nobody waits under: they are guessed, or mistyped. */
  async function known<T>(request: FastifyRequest, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (isPawlError(error, 'not-found'))
        auth.refuse(request, { cause: 'unknown-code', message: error.message })
      throw error
    }
  }

  return { home, begin, finish, signOut: leave, askCode, lookUp, decide: decideOn }
}

/** Throws what the provider says went wrong. */
function refuseFailed(callback: URL): void {
  const error = callback.searchParams.get('error')
  if (error === null) return
  const word = /^[a-z_]{1,64}$/.test(error) ? error : 'an error'
  throw new PawlError('sign-in-refused', `the provider answered ${word}`, {
    hint: 'begin again, or ask whoever runs the provider',
    internal: word,
  })
}

function answerError(
  { log }: OperatorParts,
  error: PawlError,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const problem = problemOf(error, request.id)
  if (problem.status >= 500)
    log.error({ err: error, internal: error.internal, requestId: request.id }, 'sign-in failed')
  if (error.retryAfterSeconds !== undefined) reply.header('retry-after', String(error.retryAfterSeconds))
  reply.code(problem.status)
  if ((request.headers.accept ?? '').includes('text/html'))
    return reply.type('text/html; charset=utf-8').send(errorPage(problem.title, error.message, error.hint))
  return reply
    .type('application/problem+json')
    .serializer((document: unknown) => JSON.stringify(document))
    .send(problem)
}

function need(ready: SignIn | undefined): SignIn {
  if (ready !== undefined) return ready
  throw new PawlError('not-found', 'people cannot sign in here: no provider is set up', {
    hint: 'docs/sign-in.md says how; operator tokens work without',
  })
}

function callbackOf(operatorUrl: string): string {
  return `${operatorUrl}/auth/callback`
}

function queryOf({ raw }: FastifyRequest): string {
  const at = (raw.url ?? '').indexOf('?')
  return at < 0 ? '' : (raw.url ?? '').slice(at)
}

/** A path of this server, so that a link to sign in here cannot lead elsewhere. */
function ownPath(to: unknown): string {
  return typeof to === 'string' && to.length <= 512 && /^\/(?!\/)[\w./?=&%~-]*$/.test(to) ? to : '/'
}

function signedOf({ name, role, expiresAt, csrf }: Operator): Signed {
  return { name, role, expiresAt: expiresAt ?? '', csrf: csrf ?? '' } // a session has both
}

function byOf({ name, role }: Operator, source: string) {
  return { actor: `operator:${name}`, source, role }
}
