import { get } from '../api.ts'
import { age, count, shown } from '../format.ts'
import { apiError, useNow } from '../hooks.ts'
import { html, useEffect, useState, type VNode } from '../html.ts'
import { Fault } from '../parts/dialog.ts'
import { Scroll } from '../parts/scroll.ts'
import { hrefOf } from '../router.ts'
import type { EventView, Page } from '../shapes.ts'

/** One cause, and whom it kept from booting. */
interface Group {
  readonly kind: string
  readonly cause: string
  readonly advice: string
  readonly sources: ReadonlyMap<string, string | null>
  readonly events: number
  readonly lastAt: string
}

const kinds = ['refused', 'handshake-failed', 'operator-refused', 'sign-in-refused'] as const
const hours = 24
/** As many of each kind are read, the newest; what is more is said to be more. */
const maxEvents = 1000

/** What was refused in the last day, by cause: who was it, and what to do. */
export function RefusalsPage(): VNode {
  const now = useNow(10_000)
  const [found, setFound] = useState<{ groups: readonly Group[]; more: boolean }>()
  const [fault, setFault] = useState<{ message: string; hint?: string | undefined }>()
  const load = (): void => {
    readRefusals(new Date(Date.now() - hours * 3_600_000).toISOString()).then(
      (next) => {
        setFound(next)
        setFault(undefined)
      },
      (error: unknown) => setFault(apiError(error)),
    )
  }
  useEffect(() => {
    load()
    const timer = setInterval(load, 15_000)
    return () => clearInterval(timer)
  }, [])
  return html`<section class="page">
    <header><h1>Refusals</h1></header>
    <p>The last ${hours} hours, by cause. Nothing of this is told to those who asked: they all see the same.</p>
    ${fault && html`<${Fault} message=${fault.message} hint=${fault.hint} />`}
    ${found?.more && html`<p class="fault">Only the last ${maxEvents.toLocaleString('en')} of each kind are counted.</p>`}
    ${found?.groups.length === 0 && html`<p class="empty">Nothing was refused.</p>`}
    ${
      (found?.groups.length ?? 0) > 0 &&
      html`<${Scroll} label="Refusals by cause"><table><thead><tr><th>Cause</th><th>How often</th><th>Last</th><th>Who</th><th>What to do</th></tr></thead>
      <tbody>${found?.groups.map(
        (group) => html`<tr key=${`${group.kind}/${group.cause}`}>
        <td><strong>${group.cause}</strong><br /><small>${group.kind}</small></td>
        <td class="number">${group.events.toLocaleString('en')}</td><td class="number">${age(group.lastAt, now)} ago</td>
        <td class="detail">${[...group.sources].slice(0, 6).map(([source, node]) => html`<span key=${source} class="who">${node === null ? source : html`<a href=${hrefOf('node', node)}>${node}</a>`} </span>`)}${group.sources.size > 6 ? `and ${count(group.sources.size - 6, 'other')}` : ''}</td>
        <td class="detail">${shown(group.advice, 300)}</td></tr>`,
      )}</tbody></table></${Scroll}>`
    }
  </section>`
}

/** Without a beginning the API gives the newest. */
async function readRefusals(since: string): Promise<{ groups: Group[]; more: boolean }> {
  const groups = new Map<string, Group>()
  let more = false
  for (const kind of kinds) {
    const { items } = await get<Page<EventView, number>>(`events?kind=${kind}&limit=${maxEvents}`)
    const found = items.filter(({ at }) => at >= since)
    for (const event of found) add(groups, event)
    if (found.length === maxEvents) more = true
  }
  return { groups: [...groups.values()].sort((a, b) => b.lastAt.localeCompare(a.lastAt)), more }
}

function add(groups: Map<string, Group>, event: EventView): void {
  const textOf = (key: string): string => (typeof event.detail[key] === 'string' ? event.detail[key] : '')
  const cause = shown(textOf('cause') || event.kind, 80)
  const key = `${event.kind}/${cause}`
  const before = groups.get(key)
  const sources = new Map(before?.sources)
  sources.set(event.node ?? event.source ?? 'unknown', event.node)
  const times = typeof event.detail.count === 'number' ? event.detail.count : 1
  groups.set(key, {
    kind: event.kind,
    cause,
    advice:
      [textOf('reason'), textOf('advice')].filter((text) => text !== '').join('; ') || before?.advice || '',
    sources,
    events: (before?.events ?? 0) + times,
    lastAt: event.at,
  })
}
