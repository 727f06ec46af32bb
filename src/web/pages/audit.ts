import { get } from '../api.ts'
import { apiError } from '../hooks.ts'
import { html, useEffect, useState, type VNode } from '../html.ts'
import { listen } from '../live.ts'
import { Fault } from '../parts/dialog.ts'
import { EventList } from '../parts/event-list.ts'
import { go, hrefOf, type Place } from '../router.ts'
import type { EventView, Page, VerificationView } from '../shapes.ts'

const kept = 300

/** Everything that happened, the newest first, as it happens; filtered by node and kind. */
export function AuditPage({ place }: { place: Place }): VNode {
  const node = place.query.get('node') ?? ''
  const kind = place.query.get('kind') ?? ''
  const [events, setEvents] = useState<readonly EventView[]>([])
  const [fault, setFault] = useState<{ message: string; hint?: string | undefined }>()
  const [checked, setChecked] = useState<VerificationView | 'checking'>()
  const wanted = (event: EventView): boolean =>
    (node === '' || event.node === node) && (kind === '' || event.kind.includes(kind))
  useEffect(() => {
    setEvents([])
    let over = false
    const load = (): void => {
      newest(node).then(
        (found) => {
          if (over) return
          // Those that were told while it was asked stay.
          setEvents((before) => merged(found.filter(wanted), before))
          setFault(undefined)
        },
        (error: unknown) => setFault(apiError(error)),
      )
    }
    load()
    const end = listen({
      onEvent: (event) => wanted(event) && setEvents((before) => merged([event], before)),
      onGap: load,
    })
    return () => {
      over = true
      end()
    }
  }, [node, kind])
  const verify = async (): Promise<void> => {
    setChecked('checking')
    try {
      setChecked(await get<VerificationView>('events/verify'))
    } catch (error) {
      setChecked(undefined)
      setFault(apiError(error))
    }
  }
  const show = (query: Readonly<Record<string, string>>): void =>
    go(hrefOf('audit', undefined, { node, kind, ...query }))
  return html`<section class="page">
    <header><h1>Audit log</h1></header>
    ${fault && html`<${Fault} message=${fault.message} hint=${fault.hint} />`}
    <div class="actions">
      <label>Node <input type="search" spellcheck="false" value=${node} onChange=${(event: Event) => show({ node: (event.currentTarget as HTMLInputElement).value })} /></label>
      <label>Kind <input type="search" spellcheck="false" value=${kind} onChange=${(event: Event) => show({ kind: (event.currentTarget as HTMLInputElement).value })} /></label>
      <button type="button" disabled=${checked === 'checking'} onClick=${verify}>Verify the chains</button>
      ${checked === 'checking' && html`<span>Checking…</span>`}
      ${checked !== undefined && checked !== 'checking' && html`<${Verified} found=${checked} />`}
    </div>
    <${EventList} events=${events} />
  </section>`
}

function Verified({ found }: { found: VerificationView }): VNode {
  return found.ok
    ? html`<span class="badge good">${found.events.toLocaleString('en')} events in ${found.chains.toLocaleString('en')} chains: unchanged</span>`
    : html`<span class="badge bad">${found.faults
        .map(({ chain, seq, fault }) => `${chain} ${seq}: ${fault}`)
        .slice(0, 3)
        .join('; ')}</span>`
}

/** Without a beginning the API gives the newest. */
async function newest(node: string): Promise<EventView[]> {
  const about = node === '' ? '' : `&node=${encodeURIComponent(node)}`
  const { items } = await get<Page<EventView, number>>(`events?limit=1000${about}`)
  return merged(items, [])
}

function merged(fresh: readonly EventView[], before: readonly EventView[]): EventView[] {
  const known = new Set(before.map(({ id }) => id))
  return [...fresh.filter(({ id }) => !known.has(id)), ...before].sort((a, b) => b.id - a.id).slice(0, kept)
}
