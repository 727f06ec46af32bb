import { shown, time } from '../format.ts'
import { html, useState, type VNode } from '../html.ts'
import { hrefOf } from '../router.ts'
import type { EventView } from '../shapes.ts'
import { Scroll } from './scroll.ts'

/** Kinds that somebody should look at. */
const bad =
  /^(refused|attempt-failed|session-failed|session-expired|handshake-failed|rollout-halted|node-held)|alarm|refused$/

/** Events, the newest first. What a machine or a stranger wrote is cut and cleaned. */
export function EventList({
  events,
  withNode = true,
}: {
  events: readonly EventView[]
  withNode?: boolean
}): VNode {
  if (events.length === 0) return html`<p class="empty">Nothing yet.</p>`
  return html`<${Scroll} label="Events"><table class="events">
    <thead><tr><th>At</th><th>Event</th>${withNode && html`<th>Node</th>`}<th>By</th><th>Detail</th></tr></thead>
    <tbody>${events.map((event) => html`<${Row} key=${event.id} event=${event} withNode=${withNode} />`)}</tbody>
  </table></${Scroll}>`
}

function Row({ event, withNode }: { event: EventView; withNode: boolean }): VNode {
  const [open, setOpen] = useState(false)
  const text = Object.entries(event.detail)
    .filter(([, value]) => value !== null && typeof value !== 'object')
    .map(([key, value]) => `${key}: ${shown(String(value), 120)}`)
    .join(', ')
  return html`<tr class=${bad.test(event.kind) ? 'bad' : ''}>
    <td class="number">${time(event.at)}</td>
    <td>${event.kind}</td>
    ${withNode && html`<td>${event.node === null ? '' : html`<a href=${hrefOf('node', event.node)}>${event.node}</a>`}</td>`}
    <td>${event.actor === 'node' ? (event.source ?? 'node') : shown(event.actor, 80)}</td>
    <td class="detail">${open ? html`<pre>${shown(JSON.stringify(event.detail, undefined, 1), 4000)}</pre>` : shown(text, 160)}
      ${Object.keys(event.detail).length > 0 && html` <button type="button" class="small" aria-expanded=${open} onClick=${() => setOpen(!open)}>${open ? 'less' : 'all'}</button>`}
    </td>
  </tr>`
}
