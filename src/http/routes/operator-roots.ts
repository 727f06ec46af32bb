import { showRoots } from '../../fleet/roots.ts'
import { rootsAnswer, rootsQuery } from '../schemas/roots.ts'
import { type OperatorApp, type OperatorParts, op } from './operator-app.ts'

/** What machines trust. */
export function rootRoutes(app: OperatorApp, { context, nextRoot }: OperatorParts): void {
  app.get(
    '/roots',
    {
      config: { role: 'viewer' },
      schema: {
        ...op(
          'health',
          'getRoots',
          'Shows which roots machines boot by, and which nodes need the old one still.',
        ),
        querystring: rootsQuery,
        response: { 200: rootsAnswer },
      },
    },
    ({ query }) => showRoots(context, { days: query.days ?? 30, next: nextRoot() }),
  )
}
