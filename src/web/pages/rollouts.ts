import { whyNotMove } from '../actions.ts'
import { change } from '../api.ts'
import { age, count } from '../format.ts'
import { useApi, useNow } from '../hooks.ts'
import { html, useState, type VNode } from '../html.ts'
import { Badge } from '../parts/badge.ts'
import { Dialog, Fault } from '../parts/dialog.ts'
import { hrefOf } from '../router.ts'
import type { EventView, Page, RolloutView, Whoami } from '../shapes.ts'

type Step = 'pause' | 'resume' | 'abort'

/** What each step does, and in which states it can be taken. */
const steps: Readonly<Record<Step, { words: string; from: readonly string[]; what: string }>> = {
  pause: {
    words: 'Pause',
    from: ['running'],
    what: 'Nodes outside the waves so far keep the version that they have.',
  },
  resume: { words: 'Resume', from: ['paused', 'halted'], what: 'It goes on with the wave that is on.' },
  abort: {
    words: 'Roll back',
    from: ['running', 'paused', 'halted'],
    what: 'The channel stays at the version of before; nodes get it at their next boot.',
  },
}

/** Rollouts: their waves, how far they are, and what can be done. */
export function RolloutsPage({ who }: { who: Whoami }): VNode {
  const now = useNow(5000)
  const rollouts = useApi<Page<RolloutView, string>>('rollouts?limit=50', ({ kind }: EventView) =>
    /^(rollout|channel|session-(ready|failed|expired))/.test(kind),
  )
  const [asking, setAsking] = useState<{ rollout: RolloutView; step: Step }>()
  const items = rollouts.value?.items ?? []
  return html`<section class="page">
    <header><h1>Rollouts</h1></header>
    ${rollouts.error && html`<${Fault} message=${rollouts.error.message} hint=${rollouts.error.hint} />`}
    ${rollouts.value !== undefined && items.length === 0 && html`<p class="empty">No rollout yet: pawl rollout start NAME/CHANNEL VERSION --waves 1,10%,100%</p>`}
    ${items.map((rollout) => html`<${Rollout} key=${rollout.id} rollout=${rollout} now=${now} who=${who} onAsk=${(step: Step) => setAsking({ rollout, step })} />`)}
    ${
      asking &&
      html`<${Dialog} title=${`${steps[asking.step].words}: ${asking.rollout.channel} to ${asking.rollout.version}`} action=${steps[asking.step].words}
        onConfirm=${async () => {
          await change(`rollouts/${encodeURIComponent(asking.rollout.id)}/${asking.step}`, {})
          rollouts.again()
        }} onClose=${() => setAsking(undefined)}><p>${steps[asking.step].what}</p></${Dialog}>`
    }
  </section>`
}

interface RolloutProps {
  readonly rollout: RolloutView
  readonly now: number
  readonly who: Whoami
  readonly onAsk: (step: Step) => void
}

function Rollout({ rollout, now, who, onAsk }: RolloutProps): VNode {
  const notMay = whyNotMove(who)
  return html`<article class="rollout">
    <h2>${rollout.channel}: ${rollout.before} → ${rollout.version} <${Badge} state=${rollout.state} /></h2>
    <p>Started ${age(rollout.startedAt, now)} ago by ${rollout.by.replace(/^operator:/, '')}${rollout.why === null ? '' : `: ${rollout.why}`}. ${rollout.cause === null ? '' : html`<strong class="cause">${rollout.cause}</strong>`}</p>
    <ol class="waves">${rollout.waves.map(
      ({
        wave,
        written,
        nodes,
        counts,
      }) => html`<li key=${wave} class=${wave === rollout.wave && rollout.endedAt === null ? 'now' : ''}>
      <span>Wave ${wave} (${written}): ${count(nodes, 'node')}</span>
      <span class="meter" role="img" aria-label=${`${counts.succeeded} ready, ${counts.booting} booting, ${counts.failed} failed, ${counts.waiting} waiting`}>
        ${(['succeeded', 'booting', 'failed', 'waiting'] as const).filter((key) => counts[key] > 0).map((key) => html`<i key=${key} class=${key} style=${{ flexGrow: counts[key] }}></i>`)}
      </span>
      <span class="number">${counts.succeeded} ready, ${counts.booting} booting, ${counts.failed} failed, ${counts.waiting} waiting</span></li>`,
    )}</ol>
    ${rollout.failed.length > 0 && html`<p>Failed: ${rollout.failed.slice(0, 20).map((name) => html`<a key=${name} href=${hrefOf('node', name)}>${name}</a> `)}${rollout.failed.length > 20 ? `and ${rollout.failed.length - 20} more` : ''}</p>`}
    <div class="actions">${(Object.keys(steps) as Step[]).map((step) => {
      const why = notMay ?? (steps[step].from.includes(rollout.state) ? undefined : `it is ${rollout.state}`)
      return html`<button type="button" key=${step} disabled=${why !== undefined} title=${why ?? ''} onClick=${() => onAsk(step)}>${steps[step].words}</button>`
    })}</div>
  </article>`
}
