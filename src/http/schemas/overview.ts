import Type from '../../domain/schema.ts'
import type { ImageUse, Overview, OverviewNode } from '../../fleet/node-overview.ts'
import { answers, textOrNull, word } from './answers.ts'
import { nodeState, reinstallState, sequenceName, sessionState, stageName } from './node.ts'
import { paceOrNull } from './pace.ts'

/** Which nodes: all, or these. */
export const overviewQuery = Type.Object(
  {
    name: Type.Optional(
      Type.Union([word, Type.Array(word, { maxItems: 100 })], {
        description: 'A node’s name; given several times, these nodes. Left out: all.',
      }),
    ),
  },
  { additionalProperties: false },
)

const orNull = <S extends Parameters<typeof Type.Union>[0][number]>(schema: S) =>
  Type.Union([schema, Type.Null()])

const node = answers<OverviewNode>('OverviewNode')(
  Type.Object({
    name: Type.String(),
    state: nodeState,
    failureCause: textOrNull,
    profile: textOrNull,
    labels: Type.Record(Type.String(), Type.String()),
    reinstall: reinstallState,
    session: orNull(sessionState),
    stage: orNull(stageName),
    sequence: orNull(sequenceName),
    startedAt: textOrNull,
    lastSeenAt: textOrNull,
    endedAt: textOrNull,
    pace: paceOrNull,
    loopingSince: textOrNull,
  }),
)

/** The fleet, a line for each node. */
export const overviewAnswer = answers<Overview>('Overview')(
  Type.Object({ nodes: Type.Array(node), more: Type.Boolean() }),
)

/** Who runs what. */
export const imageUsesAnswer = answers<{ items: ImageUse[] }>('ImageUses')(
  Type.Object({
    items: Type.Array(Type.Object({ image: Type.String(), nodes: Type.Integer(), ready: Type.Integer() })),
  }),
)
