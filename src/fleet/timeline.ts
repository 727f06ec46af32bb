import type { BootContext } from '../boot/context.ts'
import { readFacts, readPinned } from '../boot/pin.ts'
import type { Via } from '../boot/resolve-image.ts'
import type { Facts } from '../domain/facts.ts'
import { quote } from '../domain/node.ts'
import type { StageName } from '../domain/stage.ts'
import { traceIdOf } from '../domain/trace.ts'
import { PawlError } from '../errors.ts'
import { listEvents } from '../storage/events.ts'
import { findNode, type NodeRecord } from '../storage/nodes.ts'
import { findSession, listStages } from '../storage/sessions.ts'
import { listSpans } from '../storage/spans.ts'
import type { SessionRow, SessionStageRow } from '../storage/tables.ts'
import { noSuchNode } from './change.ts'
import { type EventView, eventView } from './event-view.ts'
import type { PaceView } from './paces.ts'
import { type StagePace, timelinePaces } from './timeline-pace.ts'
import { type StageSpans, spansByStage, type TimelineClient } from './timeline-spans.ts'

/** A boot session, told from its start. */
export interface TimelineSession {
  readonly id: string
  /** The trace that is exported once it has ended; null where traces are off. */
  readonly traceId: string | null
  readonly sequence: SessionRow['sequence']
  readonly state: SessionRow['state']
  readonly stage: StageName
  readonly local: boolean
  readonly startedAt: string
  readonly lastSeenAt: string
  readonly expiresAt: string
  readonly endedAt: string | null
  readonly cause: string | null
  readonly source: string
  readonly profile: string
  /** What was pinned at stage 1, by manifest digest. */
  readonly images: readonly {
    readonly stage: 'stage2' | 'stage3'
    readonly ref: string
    readonly digest: string
    /** Through which channel and rollout the node came to this version; null where its profile names it. */
    readonly via: Via | null
  }[]
  readonly facts: Facts
  /** Who asked for stage 1; null where it was not taken down. */
  readonly client: TimelineClient | null
  /** How it comes along, and why no better; null where it has ended. */
  readonly pace: PaceView | null
}

/** One stage that was opened. */
export interface TimelineStage extends StageSpans, StagePace {
  readonly stage: StageName
  readonly at: string
  /** Until the next stage was opened, the session ended, or now. */
  readonly seconds: number
  readonly bytes: number
  /** `done`: the next stage was opened; `open`: it is the current one; otherwise how the session ended in it. */
  readonly outcome: 'done' | 'open' | 'ready' | 'failed' | 'expired' | 'superseded'
}

/** How a node boots, or why not. */
export interface Timeline {
  readonly node: string
  /** Null for a node that has not booted yet. */
  readonly session: TimelineSession | null
  readonly stages: readonly TimelineStage[]
  readonly events: readonly EventView[]
}

const maxEvents = 500

/**
 * The story of a node's latest session, with everything that has happened to the node since it began (refusals name no
 * session); of an earlier session, its own events. A node that never booted has only events: why not, mostly.
 */
export async function timelineOf(context: BootContext, name: string, wanted?: string): Promise<Timeline> {
  const { db } = context.storage
  const node = await findNode(db, name)
  if (node === undefined) throw noSuchNode(name)
  const id = wanted ?? node.session
  if (id === null) {
    const events = await listEvents(db, { node: name, limit: maxEvents, newest: true })
    return { node: name, session: null, stages: [], events: events.map(eventView) }
  }
  const session = await sessionOf(context, node, id)
  const filter = id === node.session ? { node: name, since: new Date(session.started_at) } : { session: id }
  await context.spans?.flush() // those of this process; what others have not written yet is a second old at most
  const found = await listEvents(db, { ...filter, limit: maxEvents, newest: true })
  const events = found.map(eventView)
  const opened = await listStages(db, id)
  const stages = stagesOf(session, opened, context.clock())
  const paces = await timelinePaces(context, name, session, opened)
  const during = events.filter(({ at }) => session.ended_at === null || at <= session.ended_at)
  const spans = spansByStage(stages, await listSpans(db, id), during)
  const none: StageSpans = { client: null, spans: [] }
  const traceId = context.settings.traces ? traceIdOf(id) : null
  return {
    node: name,
    session: {
      ...sessionView(session),
      traceId,
      client: spans.get('stage1')?.client ?? null,
      pace: paces.pace,
    },
    stages: stages.map((stage) => ({
      ...stage,
      ...paces.of(stage.stage),
      ...(spans.get(stage.stage) ?? none),
    })),
    events,
  }
}

async function sessionOf(context: BootContext, node: NodeRecord, id: string): Promise<SessionRow> {
  const session = await findSession(context.storage.db, id)
  if (session !== undefined && session.node === node.id) return session
  throw new PawlError('not-found', `node "${node.name}" has no session ${quote(id)}`)
}

function sessionView(session: SessionRow): Omit<TimelineSession, 'client' | 'traceId' | 'pace'> {
  const { profile, images } = readPinned(session.pinned)
  return {
    id: session.id,
    sequence: session.sequence,
    state: session.state,
    stage: session.stage,
    local: session.local === 1,
    startedAt: session.started_at,
    lastSeenAt: session.last_seen_at,
    expiresAt: session.expires_at,
    endedAt: session.ended_at,
    cause: session.cause,
    source: session.source,
    profile,
    images:
      images === undefined
        ? []
        : (['stage2', 'stage3'] as const).map((stage) => ({
            stage,
            ref: images[stage].ref,
            digest: images[stage].digest,
            via: images[stage].via ?? null,
          })),
    facts: readFacts(session.facts),
  }
}

const order: readonly StageName[] = ['stage1', 'stage2', 'stage3', 'join', 'report']

function stagesOf(
  session: SessionRow,
  opened: readonly SessionStageRow[],
  now: Date,
): Omit<TimelineStage, keyof (StageSpans & StagePace)>[] {
  const stages = [...opened].sort((a, b) => order.indexOf(a.stage) - order.indexOf(b.stage))
  const end = session.ended_at === null ? now : new Date(session.ended_at)
  return stages.map((stage, index) => {
    const next = stages[index + 1]
    const until = next === undefined ? end : new Date(next.opened_at)
    return {
      stage: stage.stage,
      at: stage.opened_at,
      seconds: Math.max(0, (until.getTime() - Date.parse(stage.opened_at)) / 1000),
      bytes: Number(stage.bytes),
      outcome: next === undefined ? outcomeOf(session) : 'done',
    }
  })
}

function outcomeOf({ state }: SessionRow): TimelineStage['outcome'] {
  return state === 'ready' || state === 'failed' || state === 'expired' || state === 'superseded'
    ? state
    : 'open'
}
