import Type from '../../domain/schema.ts'
import type { ListedSession, NodeLogs } from '../../fleet/node-logs.ts'
import { answers, limit, type Page, textOrNull, word } from './answers.ts'
import { sequenceName, sessionState, stageName } from './node.ts'

/** Of which session, and how many lines. */
export const nodeLogsQuery = Type.Object(
  {
    session: Type.Optional(word),
    lines: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 100_000,
        description: 'The last so many lines of each console; all that are kept where it is left out.',
      }),
    ),
  },
  { additionalProperties: false },
)

/** The last lines of a node's consoles. */
export const nodeLogsAnswer = answers<NodeLogs>('NodeLogs')(
  Type.Object({
    node: Type.String(),
    session: textOrNull,
    logs: Type.Array(
      Type.Object({
        stage: stageName,
        at: Type.String(),
        text: Type.String({
          description: 'What the node sent, without control characters. Show it as text.',
        }),
        before: Type.Integer(),
      }),
    ),
  }),
)

/** Which page of a node's sessions. */
export const nodeSessionsQuery = Type.Object(
  { after: Type.Optional(word), limit: Type.Optional(limit) },
  { additionalProperties: false },
)

/** A page of a node's boot sessions. */
export const nodeSessionsAnswer = answers<Page<ListedSession, string>>('NodeSessions')(
  Type.Object({
    items: Type.Array(
      Type.Object({
        id: Type.String(),
        sequence: sequenceName,
        local: Type.Boolean(),
        state: sessionState,
        stage: stageName,
        cause: textOrNull,
        source: Type.String(),
        startedAt: Type.String(),
        endedAt: textOrNull,
      }),
    ),
    next: textOrNull,
  }),
)
