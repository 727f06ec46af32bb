import type { ListedSession, Page, Timeline } from './answers.ts'
import { formatClock, formatSeconds, formatSize, formatTime } from './format.ts'
import type { Output } from './output.ts'
import type { Field } from './table.ts'
import { type Piece, type Tone, toned } from './text.ts'

type Stage = Timeline['stages'][number]
type Span = Stage['spans'][number]

/** Who asked for the stages: one line where it stays the same. */
export function clientFields(stages: readonly Stage[]): Field[] {
  const lines: string[] = []
  let before = ''
  for (const { stage, client } of stages) {
    if (client === null) continue
    const { agent, tls } = client
    const ways = tls === null ? [] : [tls.version, tls.cipher, ...(tls.resumed ? ['resumed'] : [])]
    const words = [agent ?? 'no User-Agent', ...ways].join(', ')
    if (words !== before) lines.push(`${stage}: ${words}`)
    before = words
  }
  return lines.length === 0 ? [] : [{ name: 'client', value: lines }]
}

/** What happened within the stages, in order of time. */
export function showSpans(output: Output, stages: readonly Stage[]): void {
  const rows = stages.flatMap(({ stage, spans }) =>
    spans.map((span, index): Piece[] => [
      index === 0 ? stage : '',
      formatClock(span.at),
      span.seconds === 0 ? '' : formatSeconds(span.seconds),
      toned(tones[span.kind] ?? 'plain', span.kind),
      detailOf(span),
    ]),
  )
  if (rows.length === 0) return
  output.line()
  output.table(
    [
      { title: 'STAGE', min: 6 },
      { title: 'AT', min: 9 },
      { title: 'SECONDS', align: 'right', min: 7, drop: 1 },
      { title: 'WHAT', min: 10 },
      { title: 'DETAIL', min: 20 },
    ],
    rows,
  )
}

const tones: Readonly<Partial<Record<Span['kind'], Tone>>> = {
  refused: 'bad',
  repeated: 'warn',
  queued: 'warn',
}

/** `kernel, 14.7 MB at 12.3 MB/s`, `(4 times)`, `the node says`. */
function detailOf({ detail, bytes, bytesPerSecond, times, by }: Span): string {
  const size = bytes === undefined ? [] : [formatSize(bytes)]
  const rate = bytesPerSecond === undefined ? '' : ` at ${formatSize(bytesPerSecond)}/s`
  const words = [...(detail === undefined ? [] : [detail]), ...size.map((text) => `${text}${rate}`)].join(
    ', ',
  )
  const often = times === undefined ? '' : ` (${times} times)`
  return `${words}${often}${by === 'node' ? ', by the node' : ''}`
}

/** The boot sessions of a node, for `--session`. */
export function showSessions(output: Output, { items, next }: Page<ListedSession, string>): void {
  if (items.length === 0) output.line('no boot session is kept')
  else
    output.table(
      [
        { title: 'SESSION', min: 12 },
        { title: 'BEGAN', min: 20 },
        { title: 'SEQUENCE', drop: 2 },
        { title: 'STAGE', min: 6, drop: 1 },
        { title: 'STATE' },
      ],
      items.map(({ id, startedAt, sequence, stage, state, cause }) => [
        id,
        formatTime(startedAt),
        sequence,
        stage,
        toned(
          state === 'ready' ? 'good' : state === 'failed' || state === 'expired' ? 'bad' : 'warn',
          cause === null ? state : `${state}: ${cause}`,
        ),
      ]),
    )
  if (next !== null) output.note(`there are earlier ones: --before ${next}`)
}
