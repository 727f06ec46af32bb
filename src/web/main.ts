import { hasToken, useToken, whenSignedOut, whoAmI } from './api.ts'
import { startFleet, stopFleet } from './fleet-store.ts'
import { apiError, useApi } from './hooks.ts'
import { html, render, useEffect, useState, type VNode } from './html.ts'
import { type LiveState, listen, startLive, stopLive } from './live.ts'
import { AuditPage } from './pages/audit.ts'
import { FleetPage } from './pages/fleet.ts'
import { ImagesPage } from './pages/images.ts'
import { NodePage } from './pages/node.ts'
import { PendingPage } from './pages/pending.ts'
import { RefusalsPage } from './pages/refusals.ts'
import { RolloutsPage } from './pages/rollouts.ts'
import { SignInPage } from './pages/sign-in.ts'
import { Fault } from './parts/dialog.ts'
import { hrefOf, type Place, placeOf, watchPlace } from './router.ts'
import type { StatusAnswer, Whoami } from './shapes.ts'

const pages: readonly { readonly page: string; readonly title: string }[] = [
  { page: 'fleet', title: 'Fleet' },
  { page: 'images', title: 'Images' },
  { page: 'rollouts', title: 'Rollouts' },
  { page: 'pending', title: 'Pending' },
  { page: 'refusals', title: 'Refusals' },
  { page: 'audit', title: 'Audit log' },
]

/** Nobody is known to be signed in; or who; or why that is not known. */
type Signed = { readonly who: Whoami } | { readonly fault: string } | 'nobody' | 'asking'

function App(): VNode {
  const [signed, setSigned] = useState<Signed>('asking')
  const [place, setPlace] = useState<Place>(() => placeOf(location.hash))
  useEffect(() => watchPlace(setPlace), [])
  const ask = (): void => {
    whoAmI().then(
      (who) => setSigned(who === undefined ? 'nobody' : { who }),
      (error: unknown) => setSigned({ fault: apiError(error).message }),
    )
  }
  useEffect(() => {
    ask()
    whenSignedOut(() => {
      stopLive()
      useToken(undefined)
      setSigned('nobody')
    })
  }, [])
  if (signed === 'asking') return html`<p class="empty">Loading…</p>`
  if (signed === 'nobody') return html`<${SignInPage} onSignedIn=${(who: Whoami) => setSigned({ who })} />`
  if ('fault' in signed)
    return html`<main class="sign-in"><${Fault} message=${signed.fault} hint="look whether the server runs" /><button type="button" onClick=${ask}>Try again</button></main>`
  return html`<${Shell} who=${signed.who} place=${place} />`
}

function Shell({ who, place }: { who: Whoami; place: Place }): VNode {
  useEffect(() => {
    startLive()
    startFleet()
    return () => {
      stopLive()
      stopFleet()
    }
  }, [])
  useEffect(() => {
    document.title = `${place.subject ?? pages.find(({ page }) => page === place.page)?.title ?? 'Pawl'} · Pawl`
    document.getElementById('main')?.focus({ preventScroll: true })
  }, [place.page, place.subject])
  return html`<a class="skip" href="#main" onClick=${skip}>To the content</a>
    <${Top} who=${who} place=${place} />
    <main id="main" tabindex="-1"><${Page} place=${place} who=${who} /></main>`
}

/** The address belongs to the router: what it names is not an element. */
function skip(event: Event): void {
  event.preventDefault()
  document.getElementById('main')?.focus()
}

function Page({ place, who }: { place: Place; who: Whoami }): VNode {
  switch (place.page) {
    case 'fleet':
      return html`<${FleetPage} place=${place} who=${who} />`
    case 'node':
      return html`<${NodePage} key=${place.subject} place=${place} who=${who} />`
    case 'images':
      return html`<${ImagesPage} who=${who} />`
    case 'rollouts':
      return html`<${RolloutsPage} who=${who} />`
    case 'pending':
      return html`<${PendingPage} who=${who} />`
    case 'refusals':
      return html`<${RefusalsPage} />`
    case 'audit':
      return html`<${AuditPage} place=${place} />`
    default:
      return html`<section class="page"><h1>There is no such page</h1><p><a href="#/fleet">To the fleet</a></p></section>`
  }
}

const lives: Readonly<Record<LiveState, string>> = {
  connecting: 'connecting',
  live: 'live',
  lost: 'connection lost: trying again',
}

function Top({ who, place }: { who: Whoami; place: Place }): VNode {
  const [live, setLive] = useState<LiveState>('connecting')
  useEffect(() => listen({ onState: setLive }), [])
  const status = useApi<StatusAnswer>('status', ({ kind }) => /^(enrol|machine|pending|node-a)/.test(kind))
  const waiting = status.value?.pending ?? 0
  const signOut = (): void => {
    useToken(undefined)
    location.reload()
  }
  const current = place.page === 'node' ? 'fleet' : place.page
  return html`<header class="top">
    <strong class="brand">Pawl</strong>
    <nav aria-label="Pages">${pages.map(
      ({
        page,
        title,
      }) => html`<a key=${page} href=${hrefOf(page)} aria-current=${page === current ? 'page' : undefined}>
      ${title}${page === 'pending' && waiting > 0 ? html` <span class="badge note">${waiting}</span>` : ''}</a>`,
    )}</nav>
    <span class=${`live ${live}`} role="status">${lives[live]}</span>
    <span class="who">${who.name} (${who.role}) ${hasToken() ? html`<button type="button" onClick=${signOut}>Sign out</button>` : html`<a href="/auth/account">Account</a>`}</span>
  </header>`
}

const root = document.getElementById('app')
if (root !== null) {
  root.textContent = ''
  render(html`<${App} />`, root)
}
