import { bytes, duration, time } from '../format.ts'
import { html, type VNode } from '../html.ts'
import type { Timeline } from '../shapes.ts'

type Stage = Timeline['stages'][number]

const names: Readonly<Record<string, string>> = {
  stage1: 'iPXE: script, minimal kernel',
  stage2: 'minimal Linux: full kernel',
  stage3: 'full system',
  join: 'join',
  report: 'report',
}
const labelWidth = 190
const chartWidth = 520
const rowHeight = 30

/** A boot as bars on one time line: how long each stage took, what came in it, and how it ended. */
export function Gantt({ stages, startedAt }: { stages: readonly Stage[]; startedAt: string }): VNode {
  const begin = Date.parse(startedAt)
  const ends = stages.map(({ at, seconds }) => (Date.parse(at) - begin) / 1000 + seconds)
  const whole = Math.max(1, ...ends)
  const x = (seconds: number): number => labelWidth + (seconds / whole) * chartWidth
  const height = stages.length * rowHeight + 24
  const step = niceStep(whole / 5)
  const marks = Array.from({ length: Math.floor(whole / step) + 1 }, (_, i) => i * step)
  return html`<figure class="gantt" tabindex="0">
    <svg viewBox=${`0 0 ${labelWidth + chartWidth + 130} ${height}`} role="img" aria-label=${`The boot's stages: ${stages.map(words).join('; ')}`}>
      ${marks.map((mark) => html`<g key=${mark} class="mark"><line x1=${x(mark)} x2=${x(mark)} y1="0" y2=${height - 20} /><text x=${x(mark)} y=${height - 6} text-anchor="middle">${duration(mark)}</text></g>`)}
      ${stages.map((stage, index) => {
        const from = (Date.parse(stage.at) - begin) / 1000
        const width = Math.max(3, x(from + stage.seconds) - x(from))
        const y = index * rowHeight + 5
        return html`<g key=${stage.stage}>
          <title>${`${time(stage.at)}: ${words(stage)}`}</title>
          <text x="0" y=${y + 14}>${names[stage.stage] ?? stage.stage}</text>
          <rect class=${`bar ${stage.outcome}`} x=${x(from)} y=${y} width=${width} height="20" rx="3" />
          <text class="after" x=${x(from) + width + 6} y=${y + 14}>${duration(stage.seconds)}${stage.bytes > 0 ? `, ${bytes(stage.bytes)}` : ''}</text>
        </g>`
      })}
    </svg>
  </figure>`
}

function words({ stage, seconds, bytes: sent, outcome }: Stage): string {
  return `${names[stage] ?? stage}, ${duration(seconds)}${sent > 0 ? `, ${bytes(sent)} sent` : ''}, ${outcome}`
}

function niceStep(seconds: number): number {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400]
  return steps.find((step) => step >= seconds) ?? 86_400
}
