import { proposalKinds } from '../../domain/proposal.ts'
import Type from '../../domain/schema.ts'
import type { ChangedChannel, ChannelHistory, ChannelView } from '../../fleet/channels.ts'
import type { ProposalView } from '../../fleet/proposals.ts'
import type { RolloutView } from '../../fleet/rollout-view.ts'
import type { PlannedRollout } from '../../fleet/rollouts.ts'
import { answers, anyObject, oneOf, type Page, pageFields, textOrNull, word } from './answers.ts'

/** A channel's path: `/channels/{name}/{channel}`. */
export const channelPath = Type.Object({ name: word, channel: word })

const why = Type.Optional(Type.String({ maxLength: 500, pattern: '^[^\\p{Cc}]*$' }))
const version = Type.String({ maxLength: 130 })

/** Where to point a channel. */
export const channelMove = Type.Object(
  { version, why },
  { additionalProperties: false, title: 'ChannelMove' },
)

/** Why a channel is rolled back. */
export const channelRollback = Type.Object({ why }, { additionalProperties: false, title: 'ChannelRollback' })

/** What a channel demands of its moves; what is left out stays. */
export const channelRules = Type.Object(
  { twoPerson: Type.Optional(Type.Boolean()), requireTest: Type.Optional(Type.Boolean()) },
  { additionalProperties: false, title: 'ChannelRules' },
)

const fields = {
  channel: Type.String(),
  version: textOrNull,
  digest: textOrNull,
  twoPerson: Type.Boolean(),
  requireTest: Type.Boolean(),
  rollout: textOrNull,
  revision: Type.Integer(),
  updatedAt: Type.String(),
}

/** A channel. */
export const channelAnswer = answers<ChannelView>('Channel')(Type.Object(fields))

/** Every channel. */
export const channelsAnswer = answers<Page<ChannelView, string>>('Channels')(
  Type.Object({ items: Type.Array(channelAnswer), next: textOrNull }),
)

/** A channel with its moves. */
export const channelHistoryAnswer = answers<ChannelHistory>('ChannelHistory')(
  Type.Object({
    ...fields,
    moves: Type.Array(
      Type.Object({
        version: Type.String(),
        before: textOrNull,
        how: oneOf(['set', 'rollback', 'rollout']),
        why: textOrNull,
        by: Type.String(),
        approvedBy: textOrNull,
        at: Type.String(),
      }),
    ),
  }),
)

/** A change that waits, or has waited, for a second person. */
export const proposalAnswer = answers<ProposalView>('Proposal')(
  Type.Object({
    id: Type.String(),
    kind: oneOf(proposalKinds),
    subject: Type.String(),
    document: anyObject,
    why: textOrNull,
    state: oneOf(['waiting', 'approved', 'rejected', 'expired']),
    proposedBy: Type.String(),
    proposedAt: Type.String(),
    expiresAt: Type.String(),
    decidedBy: textOrNull,
    decidedAt: textOrNull,
  }),
)

/** Proposals. */
export const proposalsAnswer = answers<Page<ProposalView, string>>('Proposals')(
  Type.Object({ items: Type.Array(proposalAnswer), next: textOrNull }),
)

/** Which proposals to list. */
export const proposalQuery = Type.Object(
  { all: Type.Optional(Type.Boolean()), ...pageFields },
  { additionalProperties: false },
)

/** The path of what has an id. */
export const identified = Type.Object({ id: word })

/** A channel behind a change that was asked for. */
export const changedChannelAnswer = answers<ChangedChannel>('ChangedChannel')(
  Type.Object({
    ...fields,
    changed: Type.Boolean(),
    proposal: Type.Union([proposalAnswer, Type.Null()]),
  }),
)

/** A rollout to start. */
export const newRollout = Type.Object(
  {
    channel: Type.String({ maxLength: 130 }),
    version,
    waves: Type.Array(Type.String({ maxLength: 10 }), { minItems: 1, maxItems: 20 }),
    label: Type.Optional(Type.String({ pattern: '^[!-~]{1,127}$' })),
    thresholdPercent: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
    minBoots: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
    maxFailures: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000 })),
    waveTimeoutSeconds: Type.Optional(Type.Integer({ minimum: 60, maximum: 90 * 86_400 })),
    why,
    dryRun: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false, title: 'NewRollout' },
)

const plan = Type.Object({
  waves: Type.Array(Type.Object({ written: Type.String(), nodes: Type.Integer() })),
  label: textOrNull,
  thresholdPercent: Type.Integer(),
  minBoots: Type.Union([Type.Integer(), Type.Null()]),
  maxFailures: Type.Union([Type.Integer(), Type.Null()]),
  waveTimeoutSeconds: Type.Integer(),
})

const rolloutState = oneOf(['running', 'paused', 'halted', 'aborted', 'completed'])

/** A rollout. */
export const rolloutAnswer = answers<RolloutView>('Rollout')(
  Type.Object({
    id: Type.String(),
    channel: Type.String(),
    version: Type.String(),
    before: Type.String(),
    state: rolloutState,
    cause: textOrNull,
    wave: Type.Integer(),
    waveStartedAt: Type.String(),
    waves: Type.Array(
      Type.Object({
        wave: Type.Integer(),
        written: Type.String(),
        nodes: Type.Integer(),
        counts: Type.Object({
          waiting: Type.Integer(),
          booting: Type.Integer(),
          succeeded: Type.Integer(),
          failed: Type.Integer(),
        }),
        needed: Type.Integer(),
      }),
    ),
    plan,
    allowedFailures: Type.Integer(),
    failed: Type.Array(Type.String()),
    why: textOrNull,
    by: Type.String(),
    approvedBy: textOrNull,
    startedAt: Type.String(),
    endedAt: textOrNull,
  }),
)

/** Which rollouts to list. */
export const rolloutQuery = Type.Object(
  { state: Type.Optional(rolloutState), ...pageFields },
  { additionalProperties: false },
)

/** Rollouts. */
export const rolloutsAnswer = answers<Page<RolloutView, string>>('Rollouts')(
  Type.Object({ items: Type.Array(rolloutAnswer), next: textOrNull }),
)

/** What a rollout would do, or has begun to do. */
export const plannedRolloutAnswer = answers<PlannedRollout>('PlannedRollout')(
  Type.Object({
    channel: Type.String(),
    version: Type.String(),
    before: Type.String(),
    plan,
    outside: Type.Integer(),
    rollout: Type.Union([rolloutAnswer, Type.Null()]),
    proposal: Type.Union([proposalAnswer, Type.Null()]),
  }),
)
