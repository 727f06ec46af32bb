import { PawlError } from '../../errors.ts'
import { once } from '../../fleet/idempotency.ts'
import { pageOf } from '../../fleet/listed.ts'
import { beginLogin, finishLogin } from '../../fleet/login-requests.ts'
import { issueCertificate, revokeCertificate, showCertificates } from '../../fleet/operator-certificates.ts'
import { endSession, removePerson, showPeople, showSessions } from '../../fleet/people.ts'
import { revokeOwnToken, signOut } from '../../fleet/sign-in.ts'
import { nothing, pageAsked, pageQuery } from '../schemas/answers.ts'
import {
  begunLoginAnswer,
  certificateAnswer,
  certificatesAnswer,
  issuedCertificateAnswer,
  loginAnswer,
  loginPoll,
  newCertificate,
  newLogin,
  peopleAnswer,
  personPath,
  removedPersonAnswer,
  sessionsAnswer,
} from '../schemas/identity.ts'
import { operatorPath } from '../schemas/operator.ts'
import { clearSession } from '../sign-in/cookies.ts'
import { sourceOf } from '../source.ts'
import { bodiless, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const admin = { config: { role: 'admin' } } as const
const noContent = { 204: { type: 'null' } } as const

/** Sessions of people in browsers, the people themselves, and client certificates of machines. */
export function identityRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { context, auth, signIn } = parts
  const list = {
    ...op('operators', 'listOperatorSessions', 'Lists browsers that are signed in.'),
    querystring: pageQuery,
  }
  app.get(
    '/operator-sessions',
    { ...admin, schema: { ...list, response: { 200: sessionsAnswer } } },
    async (request) =>
      pageOf(await showSessions(context, signIn?.settings), ({ id }) => id, pageAsked(request.query)),
  )
  const end = { ...op('operators', 'endOperatorSession', 'Ends a session, at once.'), ...bodiless }
  app.delete(
    '/operator-sessions/:id',
    { ...admin, schema: { ...end, params: operatorPath, response: noContent } },
    async (request, reply) => {
      await endSession(context, auth.byOf(request), request.params.id)
      return reply.code(204).send(null)
    },
  )
  const people = {
    ...op('operators', 'listPeople', 'Lists people who have signed in.'),
    querystring: pageQuery,
  }
  app.get('/people', { ...admin, schema: { ...people, response: { 200: peopleAnswer } } }, async (request) =>
    pageOf(await showPeople(context), ({ name }) => name, pageAsked(request.query)),
  )
  const remove = op(
    'operators',
    'removePerson',
    'Ends all sessions and tokens of a person, and frees the name.',
  )
  app.delete(
    '/people/:name',
    {
      ...admin,
      schema: { ...remove, ...bodiless, params: personPath, response: { 200: removedPersonAnswer } },
    },
    (request) => removePerson(context, auth.byOf(request), request.params.name),
  )
  certificateRoutes(app, parts)
}

function certificateRoutes(app: OperatorApp, { context, auth, issueClientCertificate }: OperatorParts): void {
  const list = {
    ...op('operators', 'listOperatorCertificates', 'Lists client certificates, the newest first.'),
    querystring: pageQuery,
  }
  app.get(
    '/operator-certificates',
    { ...admin, schema: { ...list, response: { 200: certificatesAnswer } } },
    async (request) => pageOf(await showCertificates(context), ({ id }) => id, pageAsked(request.query)),
  )
  const issue = op(
    'operators',
    'issueOperatorCertificate',
    'Issues a client certificate for the key of a request.',
  )
  app.post(
    '/operator-certificates',
    {
      config: { role: 'admin', idempotent: true, problems: ['certificate-invalid', 'signature-invalid'] },
      schema: {
        ...issue,
        body: newCertificate,
        querystring: nothing,
        response: { 201: issuedCertificateAnswer },
      },
    },
    async (request, reply) => {
      const { expiresAt, ...asked } = request.body
      const end = expiresAt === undefined ? {} : { expiresAt: timeOf(expiresAt) }
      const by = auth.byOf(request)
      const issue = () => issueCertificate(context, issueClientCertificate, by, { ...asked, ...end })
      return reply.code(201).send(await once(context, by, issue))
    },
  )
  const revoke = {
    ...op('operators', 'revokeOperatorCertificate', 'Takes a client certificate back, at once.'),
    ...bodiless,
  }
  app.delete(
    '/operator-certificates/:id',
    { ...admin, schema: { ...revoke, params: operatorPath, response: { 200: certificateAnswer } } },
    (request) => revokeCertificate(context, auth.byOf(request), request.params.id),
  )
}

/** Signing in on a machine without a browser, and out again. */
export function loginRoutes(app: OperatorApp, { context, auth, signIn }: OperatorParts): void {
  const anyone = { config: { role: 'anyone' } } as const
  const begin = op('operators', 'beginLogin', 'Begins to wait for a person who confirms a code in a browser.')
  app.post(
    '/logins',
    {
      ...anyone,
      schema: { ...begin, body: newLogin, querystring: nothing, response: { 201: begunLoginAnswer } },
    },
    async (request, reply) => {
      if (signIn === undefined) throw noProvider()
      const { label = 'pawl' } = request.body
      const begun = await beginLogin(context, signIn.settings, { label, source: sourceOf(request) })
      return reply.code(201).send(begun)
    },
  )
  const finish = op('operators', 'finishLogin', 'Says what became of it; the token is in one answer only.')
  app.post(
    '/logins/finish',
    {
      ...anyone,
      schema: { ...finish, body: loginPoll, querystring: nothing, response: { 200: loginAnswer } },
    },
    async (request) => {
      if (signIn === undefined) throw noProvider()
      try {
        return await finishLogin(context, signIn.settings, { ...request.body, source: sourceOf(request) })
      } catch (error) {
        if (error instanceof PawlError && error.code === 'not-found') auth.failures.count(sourceOf(request))
        throw error
      }
    },
  )
  const logout = {
    ...op('operators', 'logOut', 'Ends the session or the personal token that asks.'),
    ...bodiless,
  }
  app.post(
    '/logout',
    { config: { role: 'viewer' }, schema: { ...logout, response: noContent } },
    async (request, reply) => {
      const { how, id } = auth.operatorOf(request)
      if (how === 'session') {
        await signOut(context, auth.byOf(request), id)
        clearSession(reply)
      } else await revokeOwnToken(context, auth.byOf(request), { how, id })
      return reply.code(204).send(null)
    },
  )
}

function noProvider(): PawlError {
  return new PawlError('not-found', 'people cannot sign in here: no provider is set up', {
    hint: 'use an operator token: pawl login URL --token-stdin',
  })
}

function timeOf(text: string): Date {
  const time = new Date(text)
  if (Number.isNaN(time.getTime())) throw new PawlError('invalid', `expiresAt ${text} is no time`)
  return time
}
