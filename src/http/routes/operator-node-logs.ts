import { nodeLogs, nodeSessions } from '../../fleet/node-logs.ts'
import { nodeLogsAnswer, nodeLogsQuery, nodeSessionsAnswer, nodeSessionsQuery } from '../schemas/node-logs.ts'
import { named, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const

/** What nodes sent of their consoles, and the sessions that there are. */
export function nodeLogRoutes(app: OperatorApp, { context }: OperatorParts): void {
  app.get(
    '/nodes/:name/logs',
    {
      ...viewer,
      schema: {
        ...op(
          'nodes',
          'getNodeLogs',
          'Shows the last lines that a node sent of its consoles when a boot failed.',
        ),
        querystring: nodeLogsQuery,
        params: named,
        response: { 200: nodeLogsAnswer },
      },
    },
    (request) => {
      const { session, lines = Number.MAX_SAFE_INTEGER } = request.query
      return nodeLogs(context, request.params.name, { session, lines })
    },
  )
  app.get(
    '/nodes/:name/sessions',
    {
      ...viewer,
      schema: {
        ...op(
          'nodes',
          'listNodeSessions',
          'Lists the boot sessions of a node that are kept, the latest first.',
        ),
        querystring: nodeSessionsQuery,
        params: named,
        response: { 200: nodeSessionsAnswer },
      },
    },
    (request) =>
      nodeSessions(context, request.params.name, {
        after: request.query.after,
        limit: request.query.limit ?? 100,
      }),
  )
}
