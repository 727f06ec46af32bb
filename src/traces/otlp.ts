import { SpanKind, SpanStatusCode, TraceFlags } from '@opentelemetry/api'
import { ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer'
import { type Resource, resourceFromAttributes } from '@opentelemetry/resources'
import type { ReadableSpan } from '@opentelemetry/sdk-trace-base'
import type { Attributes } from './clean.ts'
import type { Span } from './spans.ts'

/**
 * OpenTelemetry's packages stand behind this file, which is loaded only where traces are exported. Of them only what makes
 * bytes is used: nothing global is set, no OTEL_* variable is read, nothing is sent.
 */

/** Who exports. */
export interface Exporter {
  readonly version: string
  readonly resource: Attributes
}

const codes = {
  unset: SpanStatusCode.UNSET,
  ok: SpanStatusCode.OK,
  error: SpanStatusCode.ERROR,
} as const

/** Makes an `ExportTraceServiceRequest` of spans. Two of them one behind the other are one request, as protobuf has it. */
export function openEncoder({ version, resource }: Exporter): (spans: readonly Span[]) => Uint8Array {
  const from = resourceFromAttributes({ ...resource })
  const scope = { name: 'pawl', version }
  return (spans) => {
    const bytes = ProtobufTraceSerializer.serializeRequest(spans.map((span) => readable(span, from, scope)))
    if (bytes === undefined) throw new Error('the spans cannot be encoded')
    return bytes
  }
}

/** How many spans a collector says that it did not take, of those of a request that it answered with success. */
export function rejectedIn(answer: Uint8Array): number {
  try {
    const { partialSuccess } = ProtobufTraceSerializer.deserializeResponse(answer)
    const count = Number(partialSuccess?.rejectedSpans ?? 0)
    return Number.isSafeInteger(count) && count > 0 ? count : 0
  } catch {
    return 0 // not an answer of OTLP: the status is what counts
  }
}

function readable(
  span: Span,
  resource: Resource,
  instrumentationScope: ReadableSpan['instrumentationScope'],
): ReadableSpan {
  const context = (spanId: string) => ({ traceId: span.trace, spanId, traceFlags: TraceFlags.SAMPLED })
  const { code, message } = span.status
  return {
    name: span.name,
    kind: SpanKind.INTERNAL,
    spanContext: () => context(span.id),
    ...(span.parent === null ? {} : { parentSpanContext: context(span.parent) }),
    startTime: timeOf(span.start),
    endTime: timeOf(span.end),
    duration: timeOf(span.end - span.start),
    status: { code: codes[code], ...(message === undefined ? {} : { message }) },
    attributes: { ...span.attributes },
    links: [],
    events: span.events.map(({ name, at, attributes }) => ({
      name,
      time: timeOf(at),
      attributes: { ...attributes },
    })),
    ended: true,
    resource,
    instrumentationScope,
    droppedAttributesCount: 0,
    droppedEventsCount: span.droppedEvents,
    droppedLinksCount: 0,
  }
}

/** Seconds and nanoseconds. */
function timeOf(milliseconds: number): [number, number] {
  const whole = Math.round(milliseconds)
  const seconds = Math.floor(whole / 1000)
  return [seconds, (whole - seconds * 1000) * 1_000_000]
}
