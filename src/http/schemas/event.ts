import { chainFaults, type EventKind, eventKinds } from '../../domain/event.ts'
import Type from '../../domain/schema.ts'
import { spanKinds } from '../../domain/span.ts'
import type { EventView, VerificationView } from '../../fleet/event-view.ts'
import type { Timeline, TimelineSession, TimelineStage } from '../../fleet/timeline.ts'
import type { TimelineClient, TimelineSpan } from '../../fleet/timeline-spans.ts'
import { answers, anyObject, limit, oneOf, type Page, textOrNull, word } from './answers.ts'
import { sequenceName, sessionState, stageName } from './node.ts'
import { paceView, stagePace } from './pace.ts'

/** Which events to list. */
export const eventQuery = Type.Object(
  {
    node: Type.Optional(word),
    kind: Type.Optional(oneOf(Object.keys(eventKinds) as EventKind[])),
    session: Type.Optional(word),
    since: Type.Optional(
      Type.String({
        pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d(:\\d\\d(\\.\\d{1,3})?)?(Z|[+-]\\d\\d:\\d\\d)$',
      }),
    ),
    after: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
    limit: Type.Optional(limit),
  },
  { additionalProperties: false },
)

/** Which events to follow, and from where. */
export const eventStreamQuery = Type.Object(
  {
    node: Type.Optional(word),
    kind: Type.Optional(oneOf(Object.keys(eventKinds) as EventKind[])),
    session: Type.Optional(word),
    after: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
  },
  { additionalProperties: false },
)

/** What an event says wherever it is shown, but for its detail. */
export const eventFields = {
  chain: Type.String(),
  seq: Type.Integer(),
  at: Type.String(),
  kind: Type.String(),
  node: textOrNull,
  session: textOrNull,
  actor: Type.String(),
  source: textOrNull,
  hash: Type.String(),
}

const event = answers<EventView>('Event')(
  Type.Object({ id: Type.Integer(), ...eventFields, detail: anyObject }),
)

/** A page of events. */
export const eventsAnswer = answers<Page<EventView, number>>('Events')(
  Type.Object({ items: Type.Array(event), next: Type.Union([Type.Integer(), Type.Null()]) }),
)

/** What a check of every chain found. */
export const verificationAnswer = answers<VerificationView>('Verification')(
  Type.Object({
    ok: Type.Boolean(),
    chains: Type.Integer(),
    events: Type.Integer(),
    faults: Type.Array(
      Type.Object({
        chain: Type.String(),
        seq: Type.Integer(),
        fault: oneOf(chainFaults),
      }),
    ),
    note: Type.String(),
  }),
)

/** Which session's timeline. */
export const timelineQuery = Type.Object({ session: Type.Optional(word) }, { additionalProperties: false })

const via = Type.Object({
  channel: Type.String(),
  rollout: Type.Optional(Type.String()),
  wave: Type.Optional(Type.Integer()),
  gets: Type.Optional(oneOf(['new', 'before'])),
})

const client = answers<TimelineClient>('TimelineClient')(
  Type.Object(
    {
      agent: textOrNull,
      tls: Type.Union([
        Type.Object({ version: Type.String(), cipher: Type.String(), resumed: Type.Boolean() }),
        Type.Null(),
      ]),
    },
    { description: 'What asked: its User-Agent, and the TLS of its connection to us; null behind a proxy.' },
  ),
)
const clientOrNull = Type.Union([client, Type.Null()])

const span = answers<TimelineSpan>('TimelineSpan')(
  Type.Object(
    {
      kind: oneOf(spanKinds),
      at: Type.String(),
      seconds: Type.Number(),
      bytes: Type.Optional(Type.Integer()),
      bytesPerSecond: Type.Optional(Type.Integer()),
      detail: Type.Optional(Type.String()),
      by: oneOf(['server', 'node']),
      times: Type.Optional(Type.Integer()),
    },
    {
      description: 'Something that happened within the stage; 0 seconds: at once, or nobody knows how long.',
    },
  ),
)

const timelineSession = answers<TimelineSession>('TimelineSession')(
  Type.Object({
    id: Type.String(),
    traceId: textOrNull,
    sequence: sequenceName,
    state: sessionState,
    stage: stageName,
    local: Type.Boolean(),
    startedAt: Type.String(),
    lastSeenAt: Type.String(),
    expiresAt: Type.String(),
    endedAt: textOrNull,
    cause: textOrNull,
    source: Type.String(),
    profile: Type.String(),
    images: Type.Array(
      Type.Object({
        stage: oneOf(['stage2', 'stage3']),
        ref: Type.String(),
        digest: Type.String(),
        via: Type.Union([via, Type.Null()]),
      }),
    ),
    facts: Type.Unsafe<TimelineSession['facts']>(Type.Record(Type.String(), Type.String())),
    pace: Type.Union([paceView, Type.Null()]),
    client: clientOrNull,
  }),
)

const timelineStage = answers<TimelineStage>('TimelineStage')(
  Type.Object({
    stage: stageName,
    at: Type.String(),
    seconds: Type.Number(),
    bytes: Type.Integer(),
    outcome: oneOf(['done', 'open', 'ready', 'failed', 'expired', 'superseded']),
    ...stagePace,
    client: clientOrNull,
    spans: Type.Array(span),
  }),
)

/** A node's timeline. */
export const timelineAnswer = answers<Timeline>('Timeline')(
  Type.Object({
    node: Type.String(),
    session: Type.Union([timelineSession, Type.Null()]),
    stages: Type.Array(timelineStage),
    events: Type.Array(event),
  }),
)
