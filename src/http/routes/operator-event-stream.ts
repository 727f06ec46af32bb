import Type from '../../domain/schema.ts'
import { PawlError } from '../../errors.ts'
import { eventStreamQuery } from '../schemas/event.ts'
import { type OperatorApp, type OperatorParts, op } from './operator-app.ts'

/** Events as they happen. */
export function eventStreamRoutes(app: OperatorApp, { auth, eventStreams }: OperatorParts): void {
  app.addHook('preClose', async () => eventStreams.close())
  app.get(
    '/events/stream',
    {
      config: { role: 'viewer', problems: ['conflict'] },
      schema: {
        ...op('events', 'followEvents', 'Sends events as they happen, as server-sent events.'),
        description:
          'Each message has the id of its event, and the event as JSON. It begins behind the id in `Last-Event-ID` or `after`, or now. Messages without data are signs of life. The message `end` says why it ends where it is not to be asked for again.',
        querystring: eventStreamQuery,
        response: { 200: { content: { 'text/event-stream': { schema: Type.String() } } } },
      },
    },
    async (request, reply) => {
      const { after, ...filter } = request.query
      const { name } = auth.operatorOf(request)
      await eventStreams.serve({
        response: reply.raw,
        headers: { ...headersOf(reply.getHeaders()), 'content-type': 'text/event-stream; charset=utf-8' },
        who: name,
        filter,
        after: lastEventId(request.headers['last-event-id']) ?? after,
        stillMay: () => auth.stillMay(request),
        begin: () => reply.hijack(),
      })
    },
  )
}

/** The one that a browser sends when it comes back. */
function lastEventId(header: string | string[] | undefined): number | undefined {
  if (header === undefined || header === '') return undefined
  const id = /^\d{1,16}$/.test(String(header)) ? Number(header) : Number.NaN
  if (!Number.isSafeInteger(id)) throw new PawlError('invalid', 'Last-Event-ID is not the id of an event')
  return id
}

function headersOf(headers: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))
}
