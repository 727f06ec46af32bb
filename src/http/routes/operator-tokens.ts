import { PawlError } from '../../errors.ts'
import { once } from '../../fleet/idempotency.ts'
import { issueOperator, revokeOperator, showOperator, showOperators } from '../../fleet/operators.ts'
import { nothing, pageAsked, pageQuery } from '../schemas/answers.ts'
import {
  issuedOperatorAnswer,
  newOperator,
  operatorAnswer,
  operatorPath,
  operatorsAnswer,
} from '../schemas/operator.ts'
import { bare, bodiless, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const admin = { config: { role: 'admin' } } as const

/** Operator tokens. Their secrets are in one answer only, the one that makes them. */
export function operatorTokenRoutes(app: OperatorApp, { context, auth }: OperatorParts): void {
  app.get(
    '/operator-tokens',
    {
      ...admin,
      schema: {
        ...op(
          'operators',
          'listOperatorTokens',
          'Lists operator tokens, the newest first, without their secrets.',
        ),
        querystring: pageQuery,
        response: { 200: operatorsAnswer },
      },
    },
    (request) => showOperators(context.storage.db, pageAsked(request.query)),
  )
  app.post(
    '/operator-tokens',
    {
      config: { role: 'admin', idempotent: true },
      schema: {
        ...op('operators', 'createOperatorToken', 'Makes an operator token; its secret is shown once.'),
        body: newOperator,
        querystring: nothing,
        response: { 201: issuedOperatorAnswer },
      },
    },
    async (request, reply) => {
      const { expiresAt, ...asked } = request.body
      const by = auth.byOf(request)
      const wanted = { ...asked, expiresAt: expiresAt === undefined ? null : timeOf(expiresAt) }
      const issued = await once(context, by, () => issueOperator(context, wanted, by))
      return reply.code(201).send(issued)
    },
  )
  app.get(
    '/operator-tokens/:id',
    {
      config: { role: 'admin', revised: true },
      schema: {
        ...op('operators', 'getOperatorToken', 'Shows an operator token, without its secret.'),
        ...bare,
        params: operatorPath,
        response: { 200: operatorAnswer },
      },
    },
    (request) => showOperator(context.storage.db, request.params.id),
  )
  app.delete(
    '/operator-tokens/:id',
    {
      config: { role: 'admin', revised: true },
      schema: {
        ...op('operators', 'revokeOperatorToken', 'Takes an operator token back, at once.'),
        ...bodiless,
        params: operatorPath,
        response: { 200: operatorAnswer },
      },
    },
    (request) => revokeOperator(context, auth.byOf(request), request.params.id),
  )
}

function timeOf(text: string): Date {
  const time = new Date(text)
  if (Number.isNaN(time.getTime())) throw new PawlError('invalid', `expiresAt ${text} is no time`)
  return time
}
