import { bytes, duration, shown } from '../format.ts'
import { html, type VNode } from '../html.ts'
import type { Timeline } from '../shapes.ts'
import { stageNames } from './gantt.ts'
import { Scroll } from './scroll.ts'

type Stage = Timeline['stages'][number]
type Client = NonNullable<Stage['client']>

/** What happened in each stage, in order, with who asked and how: what the chart has no room for. */
export function SpanList({
  stages,
  startedAt,
}: {
  stages: readonly Stage[]
  startedAt: string
}): VNode | null {
  if (stages.every(({ spans, client }) => spans.length === 0 && client === null)) return null
  const begin = Date.parse(startedAt)
  return html`<details class="spans"><summary>Step by step</summary>
    <${Scroll} label="Steps of the boot"><table><thead><tr><th>After</th><th>What</th><th>Took</th><th>Bytes</th><th>A second</th><th>Detail</th></tr></thead>
    ${stages.map(
      (stage) => html`<tbody key=${stage.stage}>
      <tr class="stage"><th colspan="6" scope="rowgroup">${stageNames[stage.stage] ?? stage.stage}${stage.client !== null && html` <span class="client">${clientWords(stage.client)}</span>`}</th></tr>
      ${stage.spans.map(
        (span, index) => html`<tr key=${index} class=${span.kind === 'refused' ? 'bad' : ''}>
        <td class="number">${duration(Math.max(0, (Date.parse(span.at) - begin) / 1000))}</td>
        <td>${span.kind}${span.times === undefined ? '' : ` × ${span.times}`}${span.by === 'node' ? html` <span class="note">says the node</span>` : ''}</td>
        <td class="number">${span.seconds > 0 ? duration(span.seconds) : ''}</td>
        <td class="number">${span.bytes === undefined ? '' : bytes(span.bytes)}</td>
        <td class="number">${span.bytesPerSecond === undefined ? '' : bytes(span.bytesPerSecond)}</td>
        <td class="detail">${span.detail === undefined ? '' : shown(span.detail)}</td></tr>`,
      )}</tbody>`,
    )}</table></${Scroll}></details>`
}

function clientWords({ agent, tls }: Client): string {
  const by = agent === null ? 'somebody who does not say what it is' : shown(agent, 120)
  if (tls === null) return by
  return `${by}, ${tls.version} ${tls.cipher}${tls.resumed ? ', resumed' : ''}`
}
