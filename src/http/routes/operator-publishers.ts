import { once } from '../../fleet/idempotency.ts'
import {
  issuePublisher,
  registerPublisher,
  revokePublisher,
  showPublisher,
  showPublishers,
} from '../../fleet/publishers.ts'
import { nothing, pageAsked, pageQuery } from '../schemas/answers.ts'
import {
  newPublisher,
  publisherAnswer,
  publisherPath,
  publishersAnswer,
  publisherToIssue,
  registeredAnswer,
  revokedPublisherAnswer,
} from '../schemas/publisher.ts'
import { bare, bodiless, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const
const admin = { config: { role: 'admin' } } as const

/** Who may sign images. Their certificates are no secrets; their keys never come here. */
export function publisherRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { context, auth, issueCodeSigning } = parts
  const { db } = context.storage
  app.get(
    '/publishers',
    {
      ...viewer,
      schema: {
        ...op('publishers', 'listPublishers', 'Lists who may sign images.'),
        querystring: pageQuery,
        response: { 200: publishersAnswer },
      },
    },
    (request) => showPublishers(db, pageAsked(request.query)),
  )
  app.get(
    '/publishers/:name',
    {
      ...viewer,
      schema: {
        ...op('publishers', 'getPublisher', 'Shows a publisher.'),
        ...bare,
        params: publisherPath,
        response: { 200: publisherAnswer },
      },
    },
    (request) => showPublisher(db, request.params.name),
  )
  app.post(
    '/publishers',
    {
      config: { role: 'publisher', idempotent: true, problems: ['signature-invalid'] },
      schema: {
        ...op('publishers', 'registerPublisher', 'Lets the holder of a certificate sign images.'),
        body: newPublisher,
        querystring: nothing,
        response: { 201: registeredAnswer, 202: registeredAnswer },
      },
    },
    async (request, reply) => {
      const by = auth.byOf(request)
      const registered = await once(context, by, () => registerPublisher(context, by, request.body))
      return reply.code(registered.proposal === null ? 201 : 202).send(registered)
    },
  )
  app.post(
    '/publishers/issue',
    {
      config: { role: 'admin', idempotent: true, problems: ['signature-invalid', 'certificate-invalid'] },
      schema: {
        ...op(
          'publishers',
          'issuePublisher',
          'Makes a code-signing certificate for a request, and registers it.',
        ),
        body: publisherToIssue,
        querystring: nothing,
        response: { 201: publisherAnswer },
      },
    },
    async (request, reply) => {
      const by = auth.byOf(request)
      const made = await once(context, by, () => issuePublisher(context, by, request.body, issueCodeSigning))
      return reply.code(201).send(made)
    },
  )
  app.delete(
    '/publishers/:name',
    {
      ...admin,
      schema: {
        ...op('publishers', 'revokePublisher', 'Takes back that a publisher may sign, for ever.'),
        ...bodiless,
        params: publisherPath,
        response: { 200: revokedPublisherAnswer },
      },
    },
    (request) => revokePublisher(context, auth.byOf(request), request.params.name),
  )
}
