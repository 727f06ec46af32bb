import Type from '../../domain/schema.ts'
import { approveMachine, listPending, rejectMachine } from '../../fleet/enrolment.ts'
import { once } from '../../fleet/idempotency.ts'
import { pageOf } from '../../fleet/listed.ts'
import { nothing, pageAsked, word } from '../schemas/answers.ts'
import { approval, noContent, pendingAnswer, pendingQuery, rejection } from '../schemas/enrolment.ts'
import { changedNodeAnswer } from '../schemas/node.ts'
import { type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const
const operator = { config: { role: 'operator' } } as const
const coded = Type.Object({ code: word })

/** The machines that wait to become nodes. */
export function pendingRoutes(app: OperatorApp, { context, auth }: OperatorParts): void {
  app.get(
    '/pending',
    {
      ...viewer,
      schema: {
        ...op('enrolment', 'listPendingMachines', 'Lists the unknown machines that wait to become nodes.'),
        querystring: pendingQuery,
        response: { 200: pendingAnswer },
      },
    },
    async (request) =>
      pageOf(
        await listPending(context, request.query.rejected),
        ({ code }) => code,
        pageAsked(request.query),
      ),
  )
  app.post(
    '/pending/:code/approve',
    {
      config: { role: 'operator', idempotent: true },
      schema: {
        ...op('enrolment', 'approveMachine', 'Makes a waiting machine a node.'),
        params: coded,
        body: approval,
        querystring: nothing,
        response: { 201: changedNodeAnswer },
      },
    },
    async (request, reply) => {
      const { code } = request.params
      const by = auth.byOf(request)
      const approve = () => approveMachine(context, by, code, request.body)
      const { node, warnings } = await once(context, by, approve)
      return reply.code(201).send({ ...node, warnings })
    },
  )
  app.post(
    '/pending/:code/reject',
    {
      ...operator,
      schema: {
        ...op('enrolment', 'rejectMachine', 'Turns a waiting machine away, for a day or as long as is said.'),
        params: coded,
        body: rejection,
        querystring: nothing,
        response: noContent,
      },
    },
    async (request, reply) => {
      await rejectMachine(context, auth.byOf(request), request.params.code, request.body?.forSeconds)
      return reply.code(204).send(null)
    },
  )
}
