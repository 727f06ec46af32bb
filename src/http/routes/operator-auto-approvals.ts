import { acceptFacts, showRefusedFacts } from '../../fleet/accept-facts.ts'
import {
  createAutoApproval,
  listAutoApprovals,
  listRuleSerials,
  removeAutoApproval,
  revokeAutoApproval,
  showAutoApproval,
} from '../../fleet/auto-approvals.ts'
import { once } from '../../fleet/idempotency.ts'
import { pageOf } from '../../fleet/listed.ts'
import { nothing, pageAsked, pageQuery } from '../schemas/answers.ts'
import * as schemas from '../schemas/enrolment.ts'
import { changedNodeAnswer } from '../schemas/node.ts'
import { bare, bodiless, named, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const
const operator = { config: { role: 'operator' } } as const

/** Rules that approve machines without an operator. */
export function autoApprovalRoutes(app: OperatorApp, { context, auth }: OperatorParts): void {
  app.get(
    '/auto-approvals',
    {
      ...viewer,
      schema: {
        ...op('enrolment', 'listAutoApprovals', 'Lists the rules that approve machines, the newest first.'),
        querystring: pageQuery,
        response: { 200: schemas.autoApprovalsAnswer },
      },
    },
    async (request) => pageOf(await listAutoApprovals(context), ({ name }) => name, pageAsked(request.query)),
  )
  app.post(
    '/auto-approvals',
    {
      config: { role: 'operator', idempotent: true },
      schema: {
        ...op(
          'enrolment',
          'createAutoApproval',
          'Makes a rule: machines from a prefix, with these serial numbers, each once, for a time.',
        ),
        body: schemas.newAutoApproval,
        querystring: nothing,
        response: { 201: schemas.madeAutoApprovalAnswer },
      },
    },
    async (request, reply) => {
      const by = auth.byOf(request)
      const made = await once(context, by, () => createAutoApproval(context, by, request.body))
      return reply.code(201).send(made)
    },
  )
  app.get(
    '/auto-approvals/:name',
    {
      ...viewer,
      schema: {
        ...op('enrolment', 'getAutoApproval', 'Shows a rule, and how much of it is used.'),
        ...bare,
        params: named,
        response: { 200: schemas.autoApprovalAnswer },
      },
    },
    (request) => showAutoApproval(context, request.params.name),
  )
  app.get(
    '/auto-approvals/:name/serials',
    {
      ...viewer,
      schema: {
        ...op(
          'enrolment',
          'listAutoApprovalSerials',
          'Lists the serial numbers of a rule, and who took them.',
        ),
        querystring: schemas.serialsQuery,
        params: named,
        response: { 200: schemas.serialsAnswer },
      },
    },
    (request) => {
      const { limit = 100, after, used } = request.query
      return listRuleSerials(context, request.params.name, { limit, after, used })
    },
  )
  app.post(
    '/auto-approvals/:name/revoke',
    {
      ...operator,
      schema: {
        ...op('enrolment', 'revokeAutoApproval', 'Ends a rule now; the nodes that it made stay.'),
        ...bodiless,
        params: named,
        response: { 200: schemas.autoApprovalAnswer },
      },
    },
    (request) => revokeAutoApproval(context, auth.byOf(request), request.params.name),
  )
  app.delete(
    '/auto-approvals/:name',
    {
      ...operator,
      schema: {
        ...op('enrolment', 'removeAutoApproval', 'Removes a rule that is over.'),
        ...bodiless,
        params: named,
        response: schemas.noContent,
      },
    },
    async (request, reply) => {
      await removeAutoApproval(context, auth.byOf(request), request.params.name)
      return reply.code(204).send(null)
    },
  )
}

/** Facts that a node was refused for. */
export function factRoutes(app: OperatorApp, { context, auth }: OperatorParts): void {
  app.get(
    '/nodes/:name/refused-facts',
    {
      ...viewer,
      schema: {
        ...op('nodes', 'getRefusedFacts', 'Shows the facts that a node was refused for last.'),
        ...bare,
        params: named,
        response: { 200: schemas.refusedFactsAnswer },
      },
    },
    (request) => showRefusedFacts(context.storage.db, request.params.name),
  )
  app.post(
    '/nodes/:name/accept-facts',
    {
      ...operator,
      schema: {
        ...op('nodes', 'acceptFacts', 'Accepts the facts that a node was refused for, as they were then.'),
        params: named,
        body: schemas.acceptance,
        querystring: nothing,
        response: { 200: changedNodeAnswer },
      },
    },
    async (request) => {
      const { name } = request.params
      const { node, warnings } = await acceptFacts(context, auth.byOf(request), name, request.body.refusedAt)
      return { ...node, warnings }
    },
  )
}
