import { bytes, duration, shown, time } from '../format.ts'
import { html, type VNode } from '../html.ts'
import type { Timeline } from '../shapes.ts'

type Stage = Timeline['stages'][number]
type Span = Stage['spans'][number]

/** The stages as people call them. */
export const stageNames: Readonly<Record<string, string>> = {
  stage1: 'iPXE: script, minimal kernel',
  stage2: 'minimal Linux: full kernel',
  stage3: 'full system',
  join: 'join',
  report: 'report',
}
const labelWidth = 190
const chartWidth = 520
const rowHeight = 40
const barHeight = 18
/** Spans that are drawn of one stage; the list below has all. */
const mostDrawn = 100

/** A boot as bars on one time line: how long each stage took and usually takes, what happened in it, and how it ended. */
export function Gantt({ stages, startedAt }: { stages: readonly Stage[]; startedAt: string }): VNode {
  const begin = Date.parse(startedAt)
  const from = (at: string): number => Math.max(0, (Date.parse(at) - begin) / 1000)
  const end = Math.max(1, ...stages.map(({ at, seconds }) => from(at) + seconds))
  // What is usual is to be seen beside it, but a quick boot is not to be squeezed by a slow fleet.
  const usualEnd = Math.max(0, ...stages.map(({ at, usualSeconds }) => from(at) + (usualSeconds ?? 0)))
  const whole = Math.max(end, Math.min(usualEnd, end * 2))
  const x = (seconds: number): number => labelWidth + (Math.min(seconds, whole) / whole) * chartWidth
  const height = stages.length * rowHeight + 24
  const step = niceStep(whole / 5)
  const marks = Array.from({ length: Math.floor(whole / step) + 1 }, (_, i) => i * step)
  return html`<figure class="gantt" tabindex="0">
    <svg viewBox=${`0 0 ${labelWidth + chartWidth + 190} ${height}`} role="img" aria-label=${`The boot's stages: ${stages.map(words).join('; ')}`}>
      ${marks.map((mark) => html`<g key=${mark} class="mark"><line x1=${x(mark)} x2=${x(mark)} y1="0" y2=${height - 20} /><text x=${x(mark)} y=${height - 6} text-anchor="middle">${duration(mark)}</text></g>`)}
      ${stages.map((stage, index) => html`<${Row} key=${stage.stage} stage=${stage} y=${index * rowHeight + 4} from=${from} x=${x} />`)}
    </svg>
    <figcaption><span class="key open"></span> under way <span class="key done"></span> done <span class="key failed"></span> ended badly <span class="key usual"></span> usual time <span class="key small"></span> download, check or wait <span class="key small failed"></span> refused</figcaption>
  </figure>`
}

interface RowProps {
  readonly stage: Stage
  readonly y: number
  readonly from: (at: string) => number
  readonly x: (seconds: number) => number
}

function Row({ stage, y, from, x }: RowProps): VNode {
  const start = from(stage.at)
  const width = Math.max(3, x(start + stage.seconds) - x(start))
  const usual = stage.usualSeconds
  const under = y + barHeight + 2
  const behind = Math.max(x(start) + width, usual === null ? 0 : x(start + usual))
  return html`<g>
    <title>${`${time(stage.at)}: ${words(stage)}`}</title>
    <text x="0" y=${y + 14}>${stageNames[stage.stage] ?? stage.stage}</text>
    <rect class=${`bar ${stage.outcome}`} x=${x(start)} y=${y} width=${width} height=${barHeight} rx="3" />
    ${usual !== null && html`<rect class="usual" x=${x(start)} y=${under} width=${Math.max(2, x(start + usual) - x(start))} height="3" rx="1" />`}
    ${stage.spans.slice(0, mostDrawn).map((span, index) => html`<${Mark} key=${index} span=${span} y=${under + 5} from=${from} x=${x} />`)}
    <text class="after" x=${behind + 6} y=${y + 14}>${after(stage)}</text>
  </g>`
}

function Mark({ span, y, from, x }: { readonly span: Span } & Pick<RowProps, 'y' | 'from' | 'x'>): VNode {
  const start = from(span.at)
  return html`<rect class=${`span ${span.kind}`} x=${x(start)} y=${y} width=${Math.max(2.5, x(start + span.seconds) - x(start))} height="6" rx="1">
    <title>${spanWords(span)}</title></rect>`
}

function after({ seconds, bytes: sent, usualSeconds }: Stage): string {
  const parts = [duration(seconds)]
  if (usualSeconds !== null) parts.push(`usually ${duration(usualSeconds)}`)
  if (sent > 0) parts.push(bytes(sent))
  return parts.join(', ')
}

function words(stage: Stage): string {
  return `${stageNames[stage.stage] ?? stage.stage}, ${after(stage)}, ${stage.outcome}`
}

/** A span in a line. */
export function spanWords({ kind, seconds, bytes: sent, bytesPerSecond, detail, times }: Span): string {
  const parts: string[] = [kind]
  if (times !== undefined) parts.push(`${times} times`)
  if (seconds > 0) parts.push(duration(seconds))
  if (sent !== undefined) parts.push(bytes(sent))
  if (bytesPerSecond !== undefined) parts.push(`${bytes(bytesPerSecond)}/s`)
  if (detail !== undefined) parts.push(shown(detail))
  return parts.join(', ')
}

function niceStep(seconds: number): number {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400]
  return steps.find((step) => step >= seconds) ?? 86_400
}
