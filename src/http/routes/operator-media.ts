import { mediaParts } from '../../fleet/media.ts'
import { mediaAnswer, mediaQuery } from '../schemas/media.ts'
import { named, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

/** What `pawl media build` puts together, on whatever machine it runs. */
export function mediaRoutes(app: OperatorApp, { context }: OperatorParts): void {
  app.get(
    '/nodes/:name/media',
    {
      config: { role: 'viewer', problems: ['render-failed'] },
      schema: {
        ...op(
          'nodes',
          'getNodeMedia',
          'Renders the site script of a node for boot media, and names what they must trust.',
        ),
        params: named,
        querystring: mediaQuery,
        response: { 200: mediaAnswer },
      },
    },
    ({ params, query }) => mediaParts(context, params.name, query),
  )
}
