import Type from '../../domain/schema.ts'
import { PawlError } from '../../errors.ts'
import { parseGlob } from '../../fleet/glob.ts'
import { once } from '../../fleet/idempotency.ts'
import { pageOfNodes, showNode } from '../../fleet/node-view.ts'
import {
  addNode,
  armNode,
  type ChangedNode,
  changeNode,
  disableNode,
  enableNode,
  removeNode,
} from '../../fleet/nodes.ts'
import { parseLabel } from '../../fleet/reinstall-selection.ts'
import { issueSecret, revokeSecret } from '../../fleet/secrets.ts'
import { timelineOf } from '../../fleet/timeline.ts'
import { removeNodeAndObject } from '../../leaving/remove.ts'
import { noBody, nothing, pageAsked } from '../schemas/answers.ts'
import { timelineAnswer, timelineQuery } from '../schemas/event.ts'
import {
  changedNodeAnswer,
  newNode,
  nodeAnswer,
  nodeChanges,
  nodeQuery,
  nodesAnswer,
  secretAnswer,
  secretWish,
} from '../schemas/node.ts'
import { bare, bodiless, long, named, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const
const changer = { config: { role: 'operator', revised: true } } as const
const creator = { config: { role: 'operator', idempotent: true } } as const
const removal = Type.Object(
  {
    cluster: Type.Optional(
      Type.Boolean({ description: 'Removes its object in the cluster first; where that fails, nothing.' }),
    ),
  },
  { additionalProperties: false },
)
const noContent = { 204: Type.Null() }

/** Nodes, their secrets and timelines. */
export function nodeRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { context, auth } = parts
  const { db } = context.storage
  app.get(
    '/nodes',
    {
      ...viewer,
      schema: {
        ...op('nodes', 'listNodes', 'Lists nodes by name.'),
        querystring: nodeQuery,
        response: { 200: nodesAnswer },
      },
    },
    (request) => {
      const { label = [], match, ...filter } = request.query
      if (match !== undefined) parseGlob(match)
      const labels = labelsOf([label].flat())
      return pageOfNodes(db, { ...filter, ...pageAsked(request.query), match, labels })
    },
  )
  app.post(
    '/nodes',
    {
      ...creator,
      schema: {
        ...op('nodes', 'addNode', 'Adds a node.'),
        body: newNode,
        querystring: nothing,
        response: { 201: changedNodeAnswer },
      },
    },
    async (request, reply) => {
      const by = auth.byOf(request)
      const added = await once(context, by, () => addNode(context, by, request.body))
      return reply.code(201).send(flat(added))
    },
  )
  app.get(
    '/nodes/:name',
    {
      config: { role: 'viewer', revised: true },
      schema: {
        ...op('nodes', 'getNode', 'Shows a node.'),
        ...bare,
        params: named,
        response: { 200: nodeAnswer },
      },
    },
    (request) => showNode(db, request.params.name),
  )
  app.patch(
    '/nodes/:name',
    {
      ...changer,
      schema: {
        ...op('nodes', 'changeNode', 'Changes what is given of a node, and nothing else.'),
        params: named,
        body: nodeChanges,
        querystring: nothing,
        response: { 200: changedNodeAnswer },
      },
    },
    async (request) => flat(await changeNode(context, auth.byOf(request), request.params.name, request.body)),
  )
  app.delete(
    '/nodes/:name',
    {
      ...long(parts), // a cluster that does not answer
      ...changer,
      schema: {
        ...op('nodes', 'removeNode', 'Removes a node; its tokens are spent, its downloads cut.'),
        body: noBody,
        querystring: removal,
        params: named,
        response: noContent,
      },
    },
    async (request, reply) => {
      const remove = request.query.cluster === true ? removeNodeAndObject : removeNode
      await remove(context, auth.byOf(request), request.params.name)
      return reply.code(204).send(null)
    },
  )
  for (const [verb, summary, act] of [
    ['disable', 'Disables a node: it is refused until it is enabled.', disableNode],
    ['enable', 'Enables a disabled node.', enableNode],
    ['arm', 'Allows one boot of a node whose profile wants each boot armed.', armNode],
  ] as const) {
    app.post(
      `/nodes/:name/${verb}`,
      {
        ...changer,
        schema: {
          ...op('nodes', `${verb}Node`, summary),
          ...bodiless,
          params: named,
          response: { 200: nodeAnswer },
        },
      },
      (request) => act(context, auth.byOf(request), request.params.name),
    )
  }
  app.post(
    '/nodes/:name/secret',
    {
      config: { role: 'operator', revised: true, idempotent: true, problems: ['render-failed'] },
      schema: {
        ...op('nodes', 'issueNodeSecret', 'Issues the enrolment secret of a node, shown once.'),
        body: secretWish,
        querystring: nothing,
        params: named,
        response: { 200: secretAnswer },
      },
    },
    (request) => {
      const by = auth.byOf(request)
      return once(context, by, () => issueSecret(context, by, request.params.name, request.body ?? {}))
    },
  )
  app.delete(
    '/nodes/:name/secret',
    {
      ...changer,
      schema: {
        ...op('nodes', 'revokeNodeSecret', 'Takes the enrolment secret of a node back.'),
        ...bodiless,
        params: named,
        response: noContent,
      },
    },
    async (request, reply) => {
      await revokeSecret(context, auth.byOf(request), request.params.name)
      return reply.code(204).send(null)
    },
  )
  app.get(
    '/nodes/:name/timeline',
    {
      ...viewer,
      schema: {
        ...op('nodes', 'getNodeTimeline', 'Shows one boot of a node, stage by stage.'),
        querystring: timelineQuery,
        params: named,
        response: { 200: timelineAnswer },
      },
    },
    (request) => timelineOf(context, request.params.name, request.query.session),
  )
}

/** A node with its warnings beside its own fields. */
function flat({ node, warnings }: ChangedNode): ChangedNode['node'] & Pick<ChangedNode, 'warnings'> {
  return { ...node, warnings }
}

/** Labels to select by; throws `invalid` where one key is to have two values. */
function labelsOf(texts: readonly string[]): Record<string, string> {
  const labels = new Map<string, string>()
  for (const [key, value] of texts.map(parseLabel)) {
    if (labels.has(key) && labels.get(key) !== value)
      throw new PawlError('invalid', `no node has two values of label "${key}"`)
    labels.set(key, value)
  }
  return Object.fromEntries(labels)
}
