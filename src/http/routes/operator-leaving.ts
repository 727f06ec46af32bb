import { once } from '../../fleet/idempotency.ts'
import { cancelLeaving, showLeaving, startLeaving } from '../../fleet/leavings.ts'
import { nothing } from '../schemas/answers.ts'
import { leaveWish, leavingAnswer } from '../schemas/leaving.ts'
import { bare, bodiless, named, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

/** Nodes that leave their cluster to be reinstalled. What is asked for goes on by itself; its answer is how far it has come. */
export function leavingRoutes(app: OperatorApp, { context, auth }: OperatorParts): void {
  app.post(
    '/nodes/:name/leave',
    {
      config: { role: 'operator', idempotent: true },
      schema: {
        ...op(
          'nodes',
          'leaveNode',
          'Drains a node, marks it for reinstall, and reboots it, as its profile says.',
        ),
        body: leaveWish,
        querystring: nothing,
        params: named,
        response: { 202: leavingAnswer },
      },
    },
    async (request, reply) => {
      const by = auth.byOf(request)
      const { force } = request.body ?? {}
      const view = await once(context, by, () => startLeaving(context, by, request.params.name, { force }))
      return reply.code(202).send(view)
    },
  )
  app.get(
    '/nodes/:name/leave',
    {
      config: { role: 'viewer' },
      schema: {
        ...op(
          'nodes',
          'getNodeLeave',
          'Shows how far a node has come that leaves its cluster, or left it last.',
        ),
        ...bare,
        params: named,
        response: { 200: leavingAnswer },
      },
    },
    (request) => showLeaving(context.storage.db, request.params.name),
  )
  app.post(
    '/nodes/:name/leave/cancel',
    {
      config: { role: 'operator' },
      schema: {
        ...op(
          'nodes',
          'cancelNodeLeave',
          'Takes it back: the mark, and that nothing is scheduled to the node.',
        ),
        ...bodiless,
        params: named,
        response: { 200: leavingAnswer },
      },
    },
    (request) => cancelLeaving(context, auth.byOf(request), request.params.name),
  )
}
