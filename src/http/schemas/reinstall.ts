import Type from '../../domain/schema.ts'
import type { CampaignView } from '../../fleet/campaign-view.ts'
import type { CampaignNode } from '../../fleet/campaigns.ts'
import type { ReinstallPlan } from '../../fleet/reinstall.ts'
import type { PlannedNode } from '../../fleet/reinstall-plan.ts'
import { answers, oneOf, type Page, pageFields, textOrNull } from './answers.ts'
import { nodeState, reinstallState } from './node.ts'

/** Which nodes to reinstall, or not, and within which limits. */
export const reinstallRequest = Type.Object(
  {
    nodes: Type.Optional(Type.Array(Type.String({ maxLength: 253 }), { minItems: 1, maxItems: 1000 })),
    match: Type.Optional(Type.String({ maxLength: 253 })),
    label: Type.Optional(Type.String({ maxLength: 127 })),
    cancel: Type.Optional(Type.Boolean()),
    dryRun: Type.Optional(Type.Boolean()),
    maxParallel: Type.Optional(Type.Integer()),
    maxFailures: Type.Optional(Type.Integer()),
    expiresSeconds: Type.Optional(Type.Integer()),
    force: Type.Optional(Type.Boolean()),
    skipFailing: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false, title: 'ReinstallRequest' },
)

const plannedNode = answers<PlannedNode>('PlannedNode')(
  Type.Object({
    name: Type.String(),
    before: reinstallState,
    after: reinstallState,
    waits: Type.Optional(Type.Boolean()),
    skipped: Type.Optional(Type.String()),
    warning: Type.Optional(Type.String()),
  }),
)

const campaignStates = ['running', 'paused', 'completed', 'cancelled'] as const
const places = [
  'waiting',
  'marked',
  'serving',
  'done',
  'failed',
  'cancelled',
  'expired',
  'skipped',
  'moved',
] as const

const maybeCount = Type.Union([Type.Integer(), Type.Null()])
const count = Type.Integer()

/** A reinstall of many nodes. */
export const campaignAnswer = answers<CampaignView>('Reinstall')(
  Type.Object({
    id: Type.String(),
    selection: Type.String(),
    state: oneOf(campaignStates),
    cause: textOrNull,
    maxParallel: maybeCount,
    maxFailures: maybeCount,
    expiresSeconds: maybeCount,
    failures: Type.Integer(),
    nodes: Type.Integer(),
    counts: Type.Object({
      ...{ waiting: count, marked: count, serving: count, done: count, failed: count },
      ...{ cancelled: count, expired: count, skipped: count, moved: count },
    }),
    startedBy: Type.String(),
    startedAt: Type.String(),
    endedAt: textOrNull,
  }),
)

/** What was done, or would be. */
export const reinstallAnswer = answers<ReinstallPlan>('ReinstallPlan')(
  Type.Object({
    nodes: Type.Array(plannedNode),
    applied: Type.Boolean(),
    campaign: Type.Union([campaignAnswer, Type.Null()]),
  }),
)

/** The latest reinstalls. */
export const campaignsAnswer = answers<Page<CampaignView, string>>('Reinstalls')(
  Type.Object({ items: Type.Array(campaignAnswer), next: textOrNull }),
)

/** Which nodes of a reinstall to list. */
export const campaignNodesQuery = Type.Object(
  { state: Type.Optional(oneOf(places)), ...pageFields },
  { additionalProperties: false },
)

const campaignNode = answers<CampaignNode>('ReinstallNode')(
  Type.Object({
    name: Type.String(),
    state: oneOf(places),
    cause: textOrNull,
    nodeState,
    attempts: Type.Integer(),
    changedAt: Type.String(),
  }),
)

/** A page of the nodes of a reinstall. */
export const campaignNodesAnswer = answers<Page<CampaignNode, string>>('ReinstallNodes')(
  Type.Object({ items: Type.Array(campaignNode), next: textOrNull }),
)
