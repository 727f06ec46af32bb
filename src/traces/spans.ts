import type { SpanKind } from '../domain/span.ts'
import { spanIdOf, traceIdOf } from '../domain/trace.ts'
import type { EventView } from '../fleet/event-view.ts'
import type { TimelineStage } from '../fleet/timeline.ts'
import { type Attributes, attributesOf, cleanText } from './clean.ts'
import type { BootStory } from './story.ts'

/** A span, as plain data: what is sent is made of it by `otlp.ts`. Times are milliseconds since 1970. */
export interface Span {
  readonly trace: string
  readonly id: string
  /** Null for the root. */
  readonly parent: string | null
  readonly name: string
  readonly start: number
  readonly end: number
  readonly attributes: Attributes
  readonly events: readonly SpanEvent[]
  /** Events that are in the log and not here. */
  readonly droppedEvents: number
  readonly status: { readonly code: 'unset' | 'ok' | 'error'; readonly message?: string }
}

/** Something that happened at one moment of a span. */
export interface SpanEvent {
  readonly name: string
  readonly at: number
  readonly attributes: Attributes
}

/** A part of a span's time. */
interface Interval {
  readonly start: number
  readonly end: number
}

const maxEvents = 64
const maxParts = 64

/**
 * The trace of a boot that has ended: a root from stage 1 to its end, a span for each stage, one for each thing of the timeline that
 * took time within it. Whatever clocks said, children lie within their parents.
 */
export function spansOf(story: BootStory): Span[] {
  const { session, stages } = story
  const whole = intervalOf(session.startedAt, session.endedAt ?? session.lastSeenAt)
  const told = story.events.map((event) => ({ stage: stageAt(stages, whole, event), event: eventOf(event) }))
  const root: Span = {
    ...spanOf(story, '', null, session.sequence, whole),
    attributes: rootAttributes(story),
    ...bounded(told.filter(({ stage }) => stage === undefined).map(({ event }) => event)),
    status: statusOf(story),
  }
  const children = stages.flatMap((stage) => {
    const within = clamp(intervalFor(stage), whole)
    const failed = stage.outcome === 'failed' || stage.outcome === 'expired'
    const span: Span = {
      ...spanOf(story, stage.stage, '', stage.stage, within),
      attributes: attributesOf({
        'pawl.stage': stage.stage,
        'pawl.stage.outcome': stage.outcome,
        'pawl.bytes': stage.bytes > 0 ? stage.bytes : undefined,
        'user_agent.original': stage.client?.agent ?? undefined,
        'tls.protocol.version': stage.client?.tls?.version.replace(/^TLSv/, ''),
        'tls.cipher': stage.client?.tls?.cipher,
        'tls.resumed': stage.client?.tls?.resumed,
      }),
      ...bounded(told.filter((one) => one.stage === stage.stage).map(({ event }) => event)),
      ...(failed ? { status: statusOf(story) } : {}),
    }
    return [span, ...partsOf(story, stage, within)]
  })
  return [root, ...children]
}

/** Whatever its length, it is a step of a boot; a refusal or a report that took no time is an event already. */
const steps = new Set<string>(['downloaded', 'verified', 'kexec', 'joined'] satisfies SpanKind[])

/** What took time within a stage. */
function partsOf(story: BootStory, stage: TimelineStage, within: Interval): Span[] {
  const counts = new Map<string, number>()
  return stage.spans
    .filter(({ kind, seconds }) => seconds > 0 || steps.has(kind))
    .slice(0, maxParts)
    .map(({ kind, at, seconds, bytes, detail, by, times }) => {
      const number = counts.get(kind) ?? 0
      counts.set(kind, number + 1)
      const start = Date.parse(at)
      const part = clamp({ start, end: start + seconds * 1000 }, within)
      return {
        ...spanOf(story, `${stage.stage}/${kind}/${number}`, stage.stage, kind, part),
        attributes: attributesOf({
          'pawl.bytes': bytes,
          'pawl.detail': detail,
          'pawl.measured_by': by,
          'pawl.times': times,
        }),
      }
    })
}

function spanOf({ session }: BootStory, place: string, parent: string | null, name: string, time: Interval) {
  return {
    trace: traceIdOf(session.id),
    id: spanIdOf(session.id, place),
    parent: parent === null ? null : spanIdOf(session.id, parent),
    name: cleanText(name),
    ...time,
    events: [],
    droppedEvents: 0,
    status: { code: 'unset' as const },
  }
}

function rootAttributes({ node, site, session, stages, evidence }: BootStory): Attributes {
  const images = new Map(session.images.map(({ stage, ref }) => [stage, ref]))
  return attributesOf({
    'client.address': session.source,
    'user_agent.original': stages[0]?.client?.agent ?? undefined,
    'error.type': session.state === 'ready' ? undefined : session.state,
    'pawl.session': session.id,
    'pawl.node': node,
    'pawl.site': site,
    'pawl.profile': session.profile,
    'pawl.sequence': session.sequence,
    'pawl.state': session.state,
    'pawl.cause': session.cause ?? undefined,
    'pawl.stage': session.stage,
    'pawl.local': session.local,
    'pawl.evidence': evidence,
    'pawl.image.stage2': images.get('stage2'),
    'pawl.image.stage3': images.get('stage3'),
    'pawl.channel': [...new Set(session.images.flatMap(({ via }) => (via === null ? [] : [via.channel])))],
    'pawl.rollout': session.images.find(({ via }) => via?.rollout !== undefined)?.via?.rollout,
    'pawl.bytes': stages.reduce((sum, { bytes }) => sum + bytes, 0),
  })
}

/** A boot that came to its report is well. One that another of the same machine replaced at once is neither. */
function statusOf({ session, events }: BootStory): Span['status'] {
  const { state, cause } = session
  if (state === 'ready') return { code: 'ok' }
  if (events.some(({ kind, detail }) => kind === 'session-superseded' && detail.repeat === true))
    return { code: 'unset' }
  return { code: 'error', message: cleanText(cause === null ? state : `${state}: ${cause}`) }
}

/** The stage that was open when an event happened; undefined where it lies outside of all. */
function stageAt(stages: readonly TimelineStage[], whole: Interval, { at }: EventView): string | undefined {
  const moment = Date.parse(at)
  if (moment > whole.end) return undefined
  return stages.findLast((stage) => intervalFor(stage).start <= moment)?.stage
}

function eventOf({ kind, at, seq, chain, actor, source, detail }: EventView): SpanEvent {
  const { cause, message, bytes, error, attempt } = detail
  return {
    name: kind,
    at: Date.parse(at),
    attributes: attributesOf({
      'client.address': source ?? undefined,
      'pawl.actor': actor,
      'pawl.event': `${chain}#${seq}`,
      'pawl.cause': cause,
      'pawl.message': message ?? error,
      'pawl.bytes': bytes,
      'pawl.attempt': attempt,
    }),
  }
}

function bounded(events: readonly SpanEvent[]): Pick<Span, 'events' | 'droppedEvents'> {
  // The last ones tell how it ended.
  return { events: events.slice(-maxEvents), droppedEvents: Math.max(0, events.length - maxEvents) }
}

function intervalFor({ at, seconds }: TimelineStage): Interval {
  const start = Date.parse(at)
  return { start, end: start + seconds * 1000 }
}

function intervalOf(from: string, to: string): Interval {
  const start = Date.parse(from)
  return { start, end: Math.max(start, Date.parse(to)) }
}

function clamp({ start, end }: Interval, { start: first, end: last }: Interval): Interval {
  const from = Math.min(Math.max(start, first), last)
  return { start: from, end: Math.min(Math.max(end, from), last) }
}
