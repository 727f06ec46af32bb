import type { ClientTls, SpanKind } from '../domain/span.ts'
import type { StageName } from '../domain/stage.ts'
import type { SessionSpanRow } from '../storage/span-tables.ts'
import type { EventView } from './event-view.ts'

/** Something that happened within a stage. */
export interface TimelineSpan {
  readonly kind: SpanKind
  readonly at: string
  /** How long it took; 0 where it has no length, or nobody knows it. */
  readonly seconds: number
  readonly bytes?: number
  readonly bytesPerSecond?: number
  /** In words. */
  readonly detail?: string
  /** Who measured it. What the node says is its word. */
  readonly by: 'server' | 'node'
  /** How many such there were, where not all are kept; this is the last of them. */
  readonly times?: number
}

/** What a client is, as its requests say. */
export interface TimelineClient {
  /** Its User-Agent. */
  readonly agent: string | null
  /** Null where a proxy before us speaks TLS with it. */
  readonly tls: ClientTls | null
}

/** What is added to a stage. */
export interface StageSpans {
  readonly client: TimelineClient | null
  readonly spans: readonly TimelineSpan[]
}

/** A stage as far as it must be known here. */
interface Opened {
  readonly stage: StageName
  readonly at: string
}

/** Requests that open a stage, and tell who asked. */
const asking = new Set<SpanKind>(['asked', 'reported', 'repeated'])

/** What an agent does in one stage only: its clock tells whole seconds, and would put it before a stage that began within one. */
const toldOf: Readonly<Partial<Record<SpanKind, StageName>>> = { joined: 'join' }

/**
 * The spans of each stage, in order of time. A span that does not say its stage is of the one that was open then. Refusals that name no
 * session (who was refused could not prove whose it was) stand where they happened.
 */
export function spansByStage(
  stages: readonly Opened[],
  rows: readonly SessionSpanRow[],
  events: readonly EventView[],
): Map<StageName, StageSpans> {
  const [first] = stages
  const found = new Map(
    stages.map(({ stage }) => [stage, { spans: [] as TimelineSpan[], rows: [] as SessionSpanRow[] }]),
  )
  const openAt = (at: string): StageName | undefined =>
    stages.findLast((stage) => stage.at <= at)?.stage ?? first?.stage
  const placeOf = (stage: StageName | null, at: string) =>
    found.get(stage !== null && found.has(stage) ? stage : (openAt(at) ?? 'stage1'))
  for (const row of rows) {
    const place = placeOf(row.stage ?? (row.told === 1 ? (toldOf[row.kind] ?? null) : null), row.at)
    place?.spans.push(viewOf(row, first?.at ?? row.at))
    place?.rows.push(row)
  }
  for (const event of events) if (isStray(event)) placeOf(null, event.at)?.spans.push(refusalOf(event))
  return new Map(
    [...found].map(([stage, { spans, rows: of }]) => [
      stage,
      { client: clientOf(of), spans: spans.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0)) },
    ]),
  )
}

function isStray({ kind, session }: EventView): boolean {
  return session === null && (kind === 'refused' || kind === 'refusals-counted')
}

function refusalOf({ kind, at, detail, source }: EventView): TimelineSpan {
  const { cause, request, count } = detail as { cause?: unknown; request?: unknown; count?: unknown }
  const words = [request, cause].filter((word) => typeof word === 'string').join(': ')
  return {
    kind: 'refused',
    at,
    seconds: 0,
    detail: source === null ? words : `${words}, from ${source}`,
    by: 'server',
    ...(kind === 'refusals-counted' && typeof count === 'number' ? { times: count } : {}),
  }
}

function viewOf(
  { kind, at, seconds, bytes, detail, told, times }: SessionSpanRow,
  began: string,
): TimelineSpan {
  const rate = bytes !== null && seconds > 0 ? Math.round(bytes / seconds) : undefined
  return {
    kind,
    // What a node's clock says is from before the boot began is not.
    at: at < began ? began : at,
    seconds,
    ...(bytes === null ? {} : { bytes }),
    ...(rate === undefined ? {} : { bytesPerSecond: rate }),
    ...(detail === null ? {} : { detail }),
    by: told === 1 ? 'node' : 'server',
    ...(times > 1 ? { times } : {}),
  }
}

function clientOf(rows: readonly SessionSpanRow[]): TimelineClient | null {
  const row = rows.find(({ kind, agent, tls }) => asking.has(kind) && (agent !== null || tls !== null))
  if (row === undefined) return null
  return { agent: row.agent, tls: row.tls === null ? null : (JSON.parse(row.tls) as ClientTls) } // we wrote it
}
