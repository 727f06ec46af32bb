import { type NodeAction, nodeActions, whyNotMay } from '../actions.ts'
import { age, duration, shown, time } from '../format.ts'
import { useApi, useNow } from '../hooks.ts'
import { html, useState, type VNode } from '../html.ts'
import { Badge } from '../parts/badge.ts'
import { Console } from '../parts/console.ts'
import { Fault } from '../parts/dialog.ts'
import { EventList } from '../parts/event-list.ts'
import { Gantt } from '../parts/gantt.ts'
import { NodeDialog } from '../parts/node-dialog.ts'
import { SpanList } from '../parts/span-list.ts'
import { hrefOf, type Place } from '../router.ts'
import type { EventView, NodeView, Timeline, Whoami } from '../shapes.ts'

/** One node: what it is, how its boot goes, and what can be done with it. */
export function NodePage({ place, who }: { place: Place; who: Whoami }): VNode {
  const name = place.subject ?? ''
  const path = `nodes/${encodeURIComponent(name)}`
  const wanted = place.query.get('session')
  const concerns = (event: EventView): boolean => event.node === name
  const node = useApi<NodeView>(path, concerns)
  const timeline = useApi<Timeline>(
    `${path}/timeline${wanted === null ? '' : `?session=${encodeURIComponent(wanted)}`}`,
    concerns,
  )
  const [asking, setAsking] = useState<NodeAction>()
  if (node.error?.status === 404 || node.error?.status === 400)
    return html`<section class="page"><h1>${shown(name, 80)}</h1><${Fault} message="No such node" hint="it may have been removed: see the audit log" /></section>`
  return html`<section class="page">
    <header><h1><a href=${hrefOf('fleet')}>Fleet</a> / ${name}</h1>${node.value && html`<${Badge} state=${node.value.state} />`}</header>
    ${node.error && html`<${Fault} message=${node.error.message} hint=${node.error.hint} />`}
    ${node.value && html`<${Actions} node=${node.value} who=${who} onAsk=${setAsking} />`}
    ${node.value?.looping && html`<${Loop} looping=${node.value.looping} />`}
    ${node.value?.leaving && html`<${Leaving} leaving=${node.value.leaving} />`}
    ${node.value?.waiting && html`<${Waiting} waiting=${node.value.waiting} />`}
    ${timeline.value && html`<${Boot} timeline=${timeline.value} />`}
    ${timeline.value?.session && html`<${Console} path=${path} session=${timeline.value.session.id} />`}
    ${node.value && html`<${About} node=${node.value} timeline=${timeline.value} />`}
    ${timeline.value && html`<h2>What happened</h2><${EventList} events=${newestFirst(timeline.value.events)} withNode=${false} />`}
    ${asking && html`<${NodeDialog} action=${asking} nodes=${[name]} onClose=${() => setAsking(undefined)} onDone=${node.again} />`}
  </section>`
}

function newestFirst(events: readonly EventView[]): EventView[] {
  return [...events].sort((a, b) => b.id - a.id).slice(0, 200)
}

function Actions({
  node,
  who,
  onAsk,
}: {
  node: NodeView
  who: Whoami
  onAsk: (action: NodeAction) => void
}): VNode {
  const notMay = whyNotMay(who)
  return html`<div class="actions" role="group" aria-label="What to do with this node">
    ${nodeActions.map((action) => {
      const why = notMay ?? action.whyNot(node)
      return html`<button type="button" key=${action.name} disabled=${why !== undefined} title=${why ?? ''} onClick=${() => onAsk(action)}>${action.words}</button>`
    })}
    <span class="why" role="note">${notMay ?? ''}</span>
  </div>`
}

function Boot({ timeline }: { timeline: Timeline }): VNode {
  const now = useNow()
  const { session, stages } = timeline
  if (session === null)
    return html`<p class="empty">It has not booted yet. Where it asks and is refused, the reason is below.</p>`
  const end = session.endedAt === null ? now : Date.parse(session.endedAt)
  const live = session.endedAt === null
  const moving = live
    ? stages.map((stage, i) =>
        i === stages.length - 1
          ? { ...stage, seconds: Math.max(stage.seconds, (now - Date.parse(stage.at)) / 1000) }
          : stage,
      )
    : stages
  return html`<h2>${live ? 'Booting now' : 'Last boot'}: ${session.sequence}, <${Badge} state=${session.state} /></h2>
    <p>${time(session.startedAt)}, ${duration((end - Date.parse(session.startedAt)) / 1000)}${live ? ` so far; last heard of ${age(session.lastSeenAt, now)} ago` : ''}${session.cause === null ? '' : html`. <strong class="cause">${shown(session.cause)}</strong>`}</p>
    <${Pace} session=${session} />
    <${Gantt} stages=${moving} startedAt=${session.startedAt} />
    <${SpanList} stages=${stages} startedAt=${session.startedAt} />`
}

function Loop({ looping }: { looping: NonNullable<NodeView['looping']> }): VNode {
  const held = looping.heldBackUntil === null ? '' : ` It may try again at ${time(looping.heldBackUntil)}.`
  return html`<p class="pace stuck" role="status"><${Badge} state="looping" /> since ${time(looping.since)}: it boots again and again and reports nothing, so it waits longer before each boot.${held} Enable lets it try at once.</p>`
}

/** How it leaves its cluster, and what that waits for or why it failed. */
function Leaving({ leaving }: { leaving: NonNullable<NodeView['leaving']> }): VNode {
  const { state, hook, reboot, waitsFor, cause, cordoned, marked, startedAt, deadline, endedAt } = leaving
  const rest = [
    ...(cordoned ? ['nothing is scheduled to it'] : []),
    ...(marked ? ['it is marked for reinstall'] : []),
    ...(endedAt === null ? [`until ${time(deadline)} at most`] : []),
    ...(reboot === 'operator' && state !== 'cancelled' && state !== 'cancelling' ? ['rebooted by you'] : []),
  ]
  return html`<p class=${`pace ${state === 'failed' ? 'stuck' : ''}`} role="status">Leaving its cluster: <${Badge} state=${state} />${state === 'draining' ? ` by ${hook}` : ''} since ${time(startedAt)}${cause === null ? (waitsFor === null ? '' : html`: waits for <strong>${shown(waitsFor, 400)}</strong>`) : html`: <strong>${shown(cause, 400)}</strong>`}${rest.length === 0 ? '' : `; ${rest.join(', ')}`}.</p>`
}

/** It was told to come again. */
function Waiting({ waiting }: { waiting: NonNullable<NodeView['waiting']> }): VNode {
  const { request, since, until, why } = waiting
  return html`<p class="pace" role="status"><${Badge} state="waiting" /> since ${time(since)}: <strong>${why === null ? `there was no room for ${shown(request, 80)}` : `its join waits: ${shown(why, 400)}`}</strong>; it comes again at about ${time(until)}.</p>`
}

/** Why a boot does not come along, where it does not. */
function Pace({ session }: { session: NonNullable<Timeline['session']> }): VNode | null {
  const { pace } = session
  if (pace === null || pace.state === 'usual') return null
  return html`<p class=${`pace ${pace.state}`} role="status"><${Badge} state=${pace.state} /> since ${time(pace.since)}: <strong>${shown(pace.reason ?? '', 400)}</strong>. ${shown(pace.hint ?? '', 400)}</p>`
}

function About({ node, timeline }: { node: NodeView; timeline: Timeline | undefined }): VNode {
  const session = timeline?.session ?? undefined
  const labels = Object.entries(node.labels).map(([key, value]) => `${key}=${value}`)
  const rows: readonly (readonly [string, unknown])[] = [
    ['Profile', node.profile ?? 'none'],
    ['Reinstall', node.reinstall],
    ['Cause', node.failureCause ?? ''],
    ['Labels', labels.join(' ')],
    ['Addresses', node.addresses.join(' ')],
    ['MAC', node.macs.join(' ')],
    ['UUID', node.uuid ?? ''],
    ['Serial', node.serial ?? ''],
    ['Secret', node.secret.state],
    ['WireGuard', node.wireguardPublicKey ?? ''],
    ...(session === undefined
      ? []
      : [
          ['Came from', session.source] as const,
          ...session.images.map(
            ({ stage, ref, via }) =>
              [`Image of ${stage}`, via === null ? ref : `${ref}, by ${via.channel}`] as const,
          ),
          ...Object.entries(session.facts).map(
            ([key, value]) => [`It says: ${shown(key, 40)}`, shown(value)] as const,
          ),
        ]),
  ]
  return html`<details class="about" open><summary>About this node</summary>
    <dl>${rows.filter(([, value]) => value !== '').map(([key, value]) => html`<div key=${key}><dt>${key}</dt><dd>${value}</dd></div>`)}</dl>
  </details>`
}
