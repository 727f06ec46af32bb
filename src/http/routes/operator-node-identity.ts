import { rotateIdentityKey, showIdentity, showNodeIdentities } from '../../fleet/identity.ts'
import { nothing } from '../schemas/answers.ts'
import { identityAnswer, nodeIdentitiesAnswer, rotationBody } from '../schemas/node-identity.ts'
import { bare, named, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const
const admin = { config: { role: 'admin' } } as const

/** The identity of nodes: by which keys its documents are signed, and what each node was given. */
export function nodeIdentityRoutes(app: OperatorApp, { context, auth }: OperatorParts): void {
  app.get(
    '/identity',
    {
      ...viewer,
      schema: {
        ...op(
          'nodes',
          'getIdentityIssuer',
          'Shows who signs the identity documents of nodes, and by which keys.',
        ),
        ...bare,
        response: { 200: identityAnswer },
      },
    },
    () => showIdentity(context),
  )
  app.post(
    '/identity/rotate',
    {
      ...admin,
      schema: {
        ...op('nodes', 'rotateIdentityKey', 'Makes the next key that signs identity documents.'),
        querystring: nothing,
        body: rotationBody,
        response: { 201: identityAnswer },
      },
    },
    async (request, reply) =>
      reply.code(201).send(await rotateIdentityKey(context, auth.byOf(request), request.body)),
  )
  app.get(
    '/nodes/:name/identities',
    {
      ...viewer,
      schema: {
        ...op('nodes', 'listNodeIdentities', 'Lists the identity keys that boots of a node registered.'),
        ...bare,
        params: named,
        response: { 200: nodeIdentitiesAnswer },
      },
    },
    ({ params: { name } }) => showNodeIdentities(context, name),
  )
}
