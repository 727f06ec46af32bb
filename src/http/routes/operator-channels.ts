import { type ChannelRef, parseChannelRef, parseVersionFor } from '../../domain/channel.ts'
import { approveProposal, rejectProposal } from '../../fleet/approvals.ts'
import { listChannels, move, protectChannel, showChannel } from '../../fleet/channels.ts'
import { once } from '../../fleet/idempotency.ts'
import { showProposal, showProposals } from '../../fleet/proposals.ts'
import { listRollouts, showRollout } from '../../fleet/rollout-view.ts'
import { abortRollout, pauseRollout, resumeRollout, startRollout } from '../../fleet/rollouts.ts'
import { nothing, pageAsked, pageQuery } from '../schemas/answers.ts'
import {
  changedChannelAnswer,
  channelAnswer,
  channelHistoryAnswer,
  channelMove,
  channelPath,
  channelRollback,
  channelRules,
  channelsAnswer,
  identified,
  newRollout,
  plannedRolloutAnswer,
  proposalAnswer,
  proposalQuery,
  proposalsAnswer,
  rolloutAnswer,
  rolloutQuery,
  rolloutsAnswer,
} from '../schemas/channel.ts'
import { bare, bodiless, long, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const
/** Publishers bring images out; operators must be able to take them back. */
const mover = { config: { role: ['operator', 'publisher'] } } as const

/** Channels: a change that needs a second person is answered 202 with its proposal, one that is made 200. */
export function channelRoutes(app: OperatorApp, { context, auth }: OperatorParts): void {
  const { db } = context.storage
  app.get(
    '/channels',
    {
      ...viewer,
      schema: {
        ...op('channels', 'listChannels', 'Lists channels.'),
        querystring: pageQuery,
        response: { 200: channelsAnswer },
      },
    },
    (request) => listChannels(db, pageAsked(request.query)),
  )
  app.get(
    '/channels/:name/:channel',
    {
      config: { role: 'viewer', revised: true },
      schema: {
        ...op('channels', 'getChannel', 'Shows a channel with its moves.'),
        ...bare,
        params: channelPath,
        response: { 200: channelHistoryAnswer },
      },
    },
    (request) => showChannel(db, refOf(request.params)),
  )
  const changed = { querystring: nothing, response: { 200: changedChannelAnswer, 202: changedChannelAnswer } }
  app.put(
    '/channels/:name/:channel',
    {
      config: { ...mover.config, revised: true },
      schema: {
        ...op('channels', 'moveChannel', 'Points a channel at a version, or proposes that.'),
        params: channelPath,
        body: channelMove,
        ...changed,
      },
    },
    async (request, reply) => {
      const ref = refOf(request.params)
      const version = parseVersionFor(ref, request.body.version)
      const why = request.body.why ?? null
      const answer = await move(context, auth.byOf(request), ref, { how: 'set', version, why })
      return reply.code(answer.proposal === null ? 200 : 202).send(answer)
    },
  )
  app.post(
    '/channels/:name/:channel/rollback',
    {
      config: { ...mover.config, revised: true, idempotent: true },
      schema: {
        ...op('channels', 'rollBackChannel', 'Points a channel at the version before.'),
        params: channelPath,
        body: channelRollback,
        ...changed,
      },
    },
    async (request, reply) => {
      const why = request.body.why ?? null
      const by = auth.byOf(request)
      const ref = refOf(request.params)
      const answer = await once(context, by, () => move(context, by, ref, { how: 'rollback', why }))
      return reply.code(answer.proposal === null ? 200 : 202).send(answer)
    },
  )
  app.put(
    '/channels/:name/:channel/rules',
    {
      config: { role: 'admin', revised: true },
      schema: {
        ...op('channels', 'setChannelRules', 'Changes what a channel demands of its moves.'),
        params: channelPath,
        body: channelRules,
        querystring: nothing,
        response: { 200: channelAnswer },
      },
    },
    (request) => protectChannel(context, auth.byOf(request), refOf(request.params), request.body),
  )
}

/** Changes that wait for a second person. */
export function proposalRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { context, auth, artifacts } = parts
  const params = identified
  app.get(
    '/proposals',
    {
      ...viewer,
      schema: {
        ...op('proposals', 'listProposals', 'Lists changes that wait for a second person.'),
        querystring: proposalQuery,
        response: { 200: proposalsAnswer },
      },
    },
    (request) => showProposals(context, request.query.all === true, pageAsked(request.query)),
  )
  app.get(
    '/proposals/:id',
    {
      ...viewer,
      schema: {
        ...op('proposals', 'getProposal', 'Shows a proposed change.'),
        ...bare,
        params,
        response: { 200: proposalAnswer },
      },
    },
    (request) => showProposal(context.storage.db, request.params.id),
  )
  const schema = { ...bodiless, params, response: { 200: proposalAnswer } }
  app.post(
    '/proposals/:id/approve',
    {
      config: { ...mover.config, problems: ['digest-mismatch', 'store-unavailable'] },
      ...long(parts),
      schema: {
        ...op('proposals', 'approveProposal', 'Approves a change that someone else proposed, and makes it.'),
        ...schema,
      },
    },
    (request) => approveProposal(context, auth.byOf(request), artifacts, request.params.id),
  )
  app.post(
    '/proposals/:id/reject',
    {
      ...mover,
      schema: { ...op('proposals', 'rejectProposal', 'Turns a proposed change down.'), ...schema },
    },
    (request) => rejectProposal(context, auth.byOf(request), request.params.id),
  )
}

/** Rollouts. */
export function rolloutRoutes(app: OperatorApp, { context, auth }: OperatorParts): void {
  const { db } = context.storage
  const params = identified
  app.get(
    '/rollouts',
    {
      ...viewer,
      schema: {
        ...op('rollouts', 'listRollouts', 'Lists rollouts, the latest first.'),
        querystring: rolloutQuery,
        response: { 200: rolloutsAnswer },
      },
    },
    (request) => listRollouts(db, { ...pageAsked(request.query), state: request.query.state }),
  )
  app.get(
    '/rollouts/:id',
    {
      ...viewer,
      schema: {
        ...op('rollouts', 'getRollout', 'Shows a rollout, wave by wave.'),
        ...bare,
        params,
        response: { 200: rolloutAnswer },
      },
    },
    (request) => showRollout(db, request.params.id),
  )
  app.post(
    '/rollouts',
    {
      config: { ...mover.config, idempotent: true },
      schema: {
        ...op('rollouts', 'startRollout', 'Starts a rollout, proposes one, or says what it would do.'),
        body: newRollout,
        querystring: nothing,
        response: { 200: plannedRolloutAnswer, 201: plannedRolloutAnswer, 202: plannedRolloutAnswer },
      },
    },
    async (request, reply) => {
      const { channel, dryRun = false, ...asked } = request.body
      const ref = parseChannelRef(channel)
      const version = parseVersionFor(ref, asked.version)
      const by = auth.byOf(request)
      const planned = await once(context, by, () =>
        startRollout(context, by, ref, { ...asked, version }, { dryRun }),
      )
      return reply.code(dryRun ? 200 : planned.proposal === null ? 201 : 202).send(planned)
    },
  )
  for (const [verb, summary, decide] of [
    ['pause', 'Pauses a rollout: no further wave begins.', pauseRollout],
    ['resume', 'Lets a paused rollout go on.', resumeRollout],
    ['abort', 'Ends a rollout; the version before is served again.', abortRollout],
  ] as const) {
    app.post(
      `/rollouts/:id/${verb}`,
      {
        ...mover,
        schema: {
          ...op('rollouts', `${verb}Rollout`, summary),
          ...bodiless,
          params,
          response: { 200: rolloutAnswer },
        },
      },
      (request) => decide(context, auth.byOf(request), request.params.id),
    )
  }
}

function refOf({ name, channel }: { name: string; channel: string }): ChannelRef {
  return parseChannelRef(`${name}/${channel}`)
}
