import type { EventFacts, EventKind } from '../domain/event.ts'
import { Refusal, refusalCauses } from '../domain/refusal.ts'
import type { SpanKind } from '../domain/span.ts'
import type { StageName } from '../domain/stage.ts'
import type { BootContext } from './context.ts'
import type { BootMeter } from './meter.ts'
import type { NewSpan, SpanLog } from './span-log.ts'
import { silentMeter } from './stage-log.ts'
import type { Asking } from './work.ts'

type Committed = Pick<EventFacts, 'kind' | 'node' | 'session' | 'at' | 'detail'>

interface Telling {
  readonly kind: SpanKind
  /** Left out: the one that the event names. */
  readonly stage?: StageName
  readonly first?: true
}

/** The events that tell of a request's own session what became of it. */
const tells: Readonly<Partial<Record<EventKind, Telling>>> = {
  'session-opened': { kind: 'asked', stage: 'stage1', first: true },
  'booted-local': { kind: 'asked', stage: 'stage1', first: true },
  'handover-opened': { kind: 'asked', stage: 'stage1' },
  'stage2-redeemed': { kind: 'asked', stage: 'stage2' },
  'stage3-redeemed': { kind: 'asked', stage: 'stage3' },
  'join-redeemed': { kind: 'asked', stage: 'join' },
  'seed-served': { kind: 'asked' },
  'answer-repeated': { kind: 'repeated' },
  'session-ready': { kind: 'reported', stage: 'report' },
  'attempt-failed': { kind: 'reported' },
  'session-failed': { kind: 'reported' },
}

/** What an agent did before it asked for a stage, it did in the one before. */
const before: Readonly<Partial<Record<EventKind, StageName>>> = {
  'stage2-redeemed': 'stage1',
  'stage3-redeemed': 'stage2',
  'join-redeemed': 'stage3',
}

const stages = new Set<unknown>(['stage1', 'stage2', 'stage3', 'join', 'report'] satisfies StageName[])

/** Waiting that nobody would notice is no span. */
const leastQueuedSeconds = 0.01

/**
 * Runs a step of the story, and leaves its spans: what was asked and how long the answer took, the wait for its turn, the refusal where it
 * was refused, and what the node's agent told of what it did before. Which session it was, the committed events say.
 */
export async function recorded<T>(
  context: BootContext,
  request: Asking,
  step: (context: BootContext) => Promise<T>,
): Promise<T> {
  const { spans, meter = silentMeter, clock } = context
  if (spans === undefined) return step(context)
  const began = clock()
  const events: Committed[] = []
  const listening: BootMeter = {
    ...meter,
    committed(event) {
      meter.committed(event)
      events.push(event)
    },
  }
  const base = { at: began, arrival: request.arrival }
  const secondsSince = (): number => (clock().getTime() - began.getTime()) / 1000
  try {
    const answer = await step({ ...context, meter: listening })
    noteServed(spans, request, events, { ...base, seconds: secondsSince() })
    return answer
  } catch (error) {
    const session = error instanceof Refusal ? error.subject.session : undefined
    if (error instanceof Refusal && session !== undefined) {
      const detail = `${request.request}: ${refusalCauses[error.why]}`
      spans.note({ ...base, session, kind: 'refused', seconds: secondsSince(), detail })
    }
    throw error
  }
}

function noteServed(
  spans: SpanLog,
  request: Asking,
  events: readonly Committed[],
  base: Pick<NewSpan, 'at' | 'arrival' | 'seconds'>,
): void {
  for (const { kind, session, detail } of events) {
    const telling = tells[kind]
    if (telling === undefined || session === null) continue
    const stage = telling.stage ?? (stages.has(detail.stage) ? (detail.stage as StageName) : undefined)
    const queuedSeconds = request.arrival?.queuedSeconds ?? 0
    if (queuedSeconds >= leastQueuedSeconds) {
      const at = new Date(base.at.getTime() - queuedSeconds * 1000)
      spans.note({ session, stage, kind: 'queued', at, seconds: queuedSeconds, detail: request.request })
    }
    // An answer that is given again was told all of it the first time.
    if (telling.kind !== 'repeated') noteTold(spans, { session, stage: before[kind] }, request, base.at)
    const words = wordsOf(telling.kind, request, detail)
    spans.note({ ...base, session, stage, kind: telling.kind, detail: words, ...firstOf(telling) })
    return
  }
}

function firstOf({ first }: Telling): { first?: true } {
  return first === true ? { first } : {}
}

function wordsOf(kind: SpanKind, { request }: Asking, detail: Committed['detail']): string {
  if (kind !== 'reported') return request
  return String(detail.message ?? detail.cause ?? 'success')
}

/** What an agent says happened later than now did not: its clock is ahead. */
function noteTold(
  spans: SpanLog,
  of: Pick<NewSpan, 'session' | 'stage'>,
  { told = [] }: Asking,
  now: Date,
): void {
  for (const { kind, at, seconds, bytes, detail } of told) {
    const when = new Date(Math.min(Date.parse(at), now.getTime()))
    spans.note({ ...of, kind, at: when, seconds, bytes, detail, told: true })
  }
}
