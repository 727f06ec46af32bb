import { count, time } from '../format.ts'
import { useApi } from '../hooks.ts'
import { html, type VNode } from '../html.ts'
import type { EventView, NodeLogs } from '../shapes.ts'

const lines = 200

/** What a node's consoles said last, where its boot failed and it could send that. */
export function Console({ path, session }: { path: string; session: string }): VNode | null {
  const logs = useApi<NodeLogs>(
    `${path}/logs?session=${encodeURIComponent(session)}&lines=${lines}`,
    (event: EventView) => event.session === session,
  )
  const all = logs.value?.logs ?? []
  if (all.length === 0) return null
  return html`<h2>Its console's last lines</h2>
    ${all.map(
      ({ stage, at, text, before }) => html`<section key=${stage}>
      <p class="note">${stage}, sent ${time(at)}${before > 0 ? `; ${count(before, 'line')} before it: pawl node logs` : ''}</p>
      <pre class="console" tabindex="0" role="region" aria-label=${`Console of ${stage}`}>${text.trimEnd().split('\n').map(harmless).join('\n')}</pre>
    </section>`,
    )}`
}

/** A line as it is, but for what could look like something else. */
function harmless(line: string): string {
  return line.replaceAll('\t', '  ').replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '�')
}
