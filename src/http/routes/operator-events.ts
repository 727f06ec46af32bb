import { sql } from 'kysely'
import Type from '../../domain/schema.ts'
import { PawlError } from '../../errors.ts'
import { pageOfEvents, verifyEvents } from '../../fleet/event-view.ts'
import { eventQuery, eventsAnswer, verificationAnswer } from '../schemas/event.ts'
import { whoamiAnswer } from '../schemas/operator.ts'
import { bare, long, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const
const anyone = { config: { role: 'anyone' } } as const

/** The record of everything that happened, and who is asking. */
export function eventRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { context, auth } = parts
  const { db } = context.storage
  app.get(
    '/events',
    {
      ...viewer,
      schema: {
        ...op('events', 'listEvents', 'Lists events in the order they were written.'),
        querystring: eventQuery,
        response: { 200: eventsAnswer },
      },
    },
    (request) => {
      const { since, limit = 100, ...rest } = request.query
      return pageOfEvents(db, { ...rest, limit, ...(since === undefined ? {} : { since: timeOf(since) }) })
    },
  )
  app.get(
    '/events/verify',
    {
      ...viewer,
      ...long(parts),
      schema: {
        ...op('events', 'verifyEvents', 'Checks the hash chain of every event.'),
        ...bare,
        response: { 200: verificationAnswer },
      },
    },
    () => verifyEvents(db),
  )
  app.get(
    '/whoami',
    {
      ...viewer,
      schema: {
        ...op('operators', 'whoAmI', 'Says who is asking.'),
        ...bare,
        response: { 200: whoamiAnswer },
      },
    },
    async (request) => auth.operatorOf(request),
  )
}

/** What monitors ask, outside the API and without a token: they learn no more than ok. */
export function healthRoutes(app: OperatorApp, { context, stopping }: OperatorParts): void {
  const schema = { produces: ['text/plain'], response: { 200: Type.String() } }
  app.get(
    '/healthz',
    { ...anyone, schema: { ...op('health', 'getHealth', 'Says ok while the server runs.'), ...schema } },
    async (_request, reply) => reply.type('text/plain').send('ok'),
  )
  app.get(
    '/readyz',
    {
      ...anyone,
      schema: {
        ...op(
          'health',
          'getReadiness',
          'Says ok while the database answers and the server is not about to stop.',
        ),
        ...schema,
      },
    },
    async (_request, reply) => {
      if (stopping())
        throw new PawlError('overloaded', 'this server is about to stop', { hint: 'ask another one' })
      await sql`select 1`.execute(context.storage.db).catch((cause: unknown) => {
        throw new PawlError('storage-unavailable', 'the database does not answer', { cause })
      })
      // Anyone may ask: where the file is, the log says.
      const cause = context.storage.rest?.damage()
      if (cause !== undefined)
        throw new PawlError('storage-unavailable', 'the database is damaged', { cause })
      return reply.type('text/plain').send('ok')
    },
  )
}

function timeOf(text: string): Date {
  const time = new Date(text)
  if (Number.isNaN(time.getTime())) throw new PawlError('invalid', `since is not a time: "${text}"`)
  return time
}
