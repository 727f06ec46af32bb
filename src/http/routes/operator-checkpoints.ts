import {
  checkpointKeys,
  makeCheckpoint,
  pageOfCheckpoints,
  replaceCheckpointKey,
  showCheckpoint,
} from '../../fleet/checkpoints.ts'
import { pageOfChained, pageOfChains } from '../../fleet/event-view.ts'
import { eventsAt } from '../../storage/chains.ts'
import { nothing } from '../schemas/answers.ts'
import {
  chainedAnswer,
  chainedQuery,
  chainQuery,
  chainsAnswer,
  checkpointAnswer,
  checkpointKeysAnswer,
  checkpointPath,
  checkpointQuery,
  checkpointsAnswer,
  positionsAnswer,
  positionsBody,
} from '../schemas/checkpoint.ts'
import { bare, bodiless, long, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const
const operator = { config: { role: 'operator' } } as const
const admin = { config: { role: 'admin' } } as const

/** Signed statements of where the record is, and the keys to check them by. */
export function checkpointRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { context, auth, checkpoints } = parts
  const { db } = context.storage
  app.get(
    '/events/checkpoints',
    {
      ...viewer,
      schema: {
        ...op('events', 'listCheckpoints', 'Lists signed checkpoints, the newest first.'),
        querystring: checkpointQuery,
        response: { 200: checkpointsAnswer },
      },
    },
    ({ query: { before, limit = 100 } }) => pageOfCheckpoints(db, { before, limit }),
  )
  app.post(
    '/events/checkpoints',
    {
      ...operator,
      ...long(parts),
      schema: {
        ...op('events', 'createCheckpoint', 'Signs where every chain of events is now.'),
        ...bodiless,
        response: { 201: checkpointAnswer },
      },
    },
    async (request, reply) =>
      reply.code(201).send(await makeCheckpoint(context, checkpoints, auth.byOf(request))),
  )
  app.get(
    '/events/checkpoints/:seq',
    {
      ...viewer,
      ...long(parts),
      schema: {
        ...op('events', 'getCheckpoint', 'Shows a checkpoint with where every chain was.'),
        ...bare,
        params: checkpointPath,
        response: { 200: checkpointAnswer },
      },
    },
    ({ params: { seq } }) => showCheckpoint(db, seq === 'last' ? seq : Number(seq)),
  )
  app.get(
    '/events/checkpoint-keys',
    {
      ...viewer,
      schema: {
        ...op('events', 'listCheckpointKeys', 'Lists the public keys that signed checkpoints, as a JWK Set.'),
        ...bare,
        response: { 200: checkpointKeysAnswer },
      },
    },
    () => checkpointKeys(db),
  )
  app.post(
    '/events/checkpoint-keys',
    {
      ...admin,
      ...long(parts),
      schema: {
        ...op('events', 'replaceCheckpointKey', 'Signs checkpoints with a new key from here on.'),
        ...bodiless,
        response: { 201: checkpointKeysAnswer },
      },
    },
    async (request, reply) =>
      reply.code(201).send(await replaceCheckpointKey(context, checkpoints, auth.byOf(request))),
  )
}

/** The chains as they are kept, for who computes every hash anew. */
export function chainRoutes(app: OperatorApp, { context }: OperatorParts): void {
  const { db } = context.storage
  app.get(
    '/events/chains',
    {
      ...viewer,
      schema: {
        ...op('events', 'listChains', 'Lists the chains of events with their ends.'),
        querystring: chainQuery,
        response: { 200: chainsAnswer },
      },
    },
    ({ query: { after, name, limit = 100 } }) => pageOfChains(db, { after, name, limit }),
  )
  app.get(
    '/events/chained',
    {
      ...viewer,
      schema: {
        ...op(
          'events',
          'listChainedEvents',
          'Lists events chain by chain, with all that their hashes cover.',
        ),
        querystring: chainedQuery,
        response: { 200: chainedAnswer },
      },
    },
    ({ query: { afterChain, after = 0, chain, limit = 100 } }) =>
      pageOfChained(db, {
        chain,
        limit,
        after: afterChain === undefined ? undefined : { chain: afterChain, seq: after },
      }),
  )
  app.post(
    '/events/positions',
    {
      ...viewer,
      schema: {
        ...op('events', 'getEventsAtPositions', 'Shows single events by chain and number.'),
        querystring: nothing,
        body: positionsBody,
        response: { 200: positionsAnswer },
      },
    },
    async ({ body: { positions } }) => ({ items: await eventsAt(db, positions) }),
  )
}
