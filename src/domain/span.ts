/**
 * What happened within a boot, and how long it took: the spans of a timeline. Some the server measures, some the node's own agents do and
 * tell in passing. They explain a boot and decide nothing: what is true of it stands in its stages and in the events.
 */

/** Kinds of spans. */
export const spanKinds = [
  'asked',
  'queued',
  'downloaded',
  'verified',
  'kexec',
  'joined',
  'reported',
  'refused',
  'repeated',
] as const

export type SpanKind = (typeof spanKinds)[number]

/** The TLS of a client's connection to us. */
export interface ClientTls {
  /** `TLSv1.2`. */
  readonly version: string
  readonly cipher: string
  /** Whether it went on with a session of before. */
  readonly resumed: boolean
}

/** What a request came by. Plain data: it may go to another process. */
export interface Arrival {
  /** Its User-Agent, cleaned and bounded. */
  readonly agent: string | null
  /** Null where somebody before us speaks TLS with the client. */
  readonly tls: ClientTls | null
  /** How long it waited for its turn. */
  readonly queuedSeconds: number
}

/** A span as a node's agent told it: hostile until it is parsed, and no more than its word behind that. */
export interface ToldSpan {
  readonly kind: SpanKind
  readonly at: string
  readonly seconds: number
  readonly bytes: number | null
  readonly detail: string
}

/** Bounds. */
export const maxAgentLength = 120
export const maxDetailLength = 300
const maxToldText = 4096
const maxToldSpans = 32

/** Text of a node for one line: whatever is not printable ASCII is a question mark. */
export function oneLine(text: string, most: number): string {
  return text
    .slice(0, most * 4)
    .replace(/\s+/g, ' ')
    .replace(/[^ -~]/g, '?')
    .slice(0, most)
    .trim()
}

/** A User-Agent as it is kept; null where there is none. */
export function cleanAgent(header: string | undefined): string | null {
  const agent = oneLine(header ?? '', maxAgentLength)
  return agent === '' ? null : agent
}

const toldKinds = new Set<string>(['downloaded', 'verified', 'kexec', 'joined'] satisfies SpanKind[])
const toldLine = /^([a-z]{1,16}) (\d{1,11}) (\d{1,7}(?:\.\d{1,3})?) (\d{1,15}|-) ([ -~]{1,200})$/

/**
 * What agents tell of what they did, one line each: `KIND AT SECONDS BYTES WHAT`, where `AT` is in seconds since 1970 by the node's clock and
 * `BYTES` may be `-`. A line that is none is left out: no boot fails by words about it.
 */
export function parseToldSpans(text: string): ToldSpan[] {
  return text
    .slice(0, maxToldText)
    .split('\n', maxToldSpans)
    .flatMap((line) => {
      const [, kind = '', at = '', seconds = '', bytes = '', detail = ''] = toldLine.exec(line) ?? []
      if (!toldKinds.has(kind)) return []
      const told = new Date(Number(at) * 1000)
      return [
        {
          kind: kind as SpanKind, // one of the four
          at: told.toISOString(),
          seconds: Number(seconds),
          bytes: bytes === '-' ? null : Number(bytes),
          detail: detail.trim(),
        },
      ]
    })
}
