import { whyNotMay } from '../actions.ts'
import { change } from '../api.ts'
import { age, shown } from '../format.ts'
import { useApi, useNow } from '../hooks.ts'
import { html, useState, type VNode } from '../html.ts'
import { Dialog, Fault } from '../parts/dialog.ts'
import { Scroll } from '../parts/scroll.ts'
import type { EventView, Page, PendingMachine, ProfileView, Whoami } from '../shapes.ts'

/** Unknown machines that ask, each with the code on its console. */
export function PendingPage({ who }: { who: Whoami }): VNode {
  const now = useNow(5000)
  const concerns = ({ kind }: EventView): boolean => /^(enrol|machine|node-a|pending)/.test(kind)
  const pending = useApi<Page<PendingMachine, string>>('pending?limit=1000', concerns)
  const [asking, setAsking] = useState<{ machine: PendingMachine; approve: boolean }>()
  const notMay = whyNotMay(who)
  const items = pending.value?.items ?? []
  return html`<section class="page">
    <header><h1>Machines that ask</h1></header>
    <p>Compare the code with the one on the machine's own console: what a machine says of itself can be forged.</p>
    ${pending.error && html`<${Fault} message=${pending.error.message} hint=${pending.error.hint} />`}
    ${pending.value !== undefined && items.length === 0 && html`<p class="empty">No unknown machine asks.</p>`}
    ${
      items.length > 0 &&
      html`<${Scroll} label="Machines that ask"><table><thead><tr><th>Code</th><th>It says it is</th><th>From</th><th>First asked</th><th></th></tr></thead>
      <tbody>${items.map(
        (machine) => html`<tr key=${machine.code}>
        <td><code>${machine.code}</code></td>
        <td class="detail">${Object.entries(machine.facts)
          .map(([key, value]) => `${shown(key, 30)}: ${shown(value, 60)}`)
          .join(', ')}</td>
        <td>${machine.source}</td><td class="number">${age(machine.firstSeenAt, now)} ago</td>
        <td class="buttons">
          <button type="button" disabled=${notMay !== undefined} title=${notMay ?? ''} onClick=${() => setAsking({ machine, approve: true })}>Approve…</button>
          <button type="button" disabled=${notMay !== undefined} title=${notMay ?? ''} onClick=${() => setAsking({ machine, approve: false })}>Reject…</button>
        </td></tr>`,
      )}</tbody></table></${Scroll}>`
    }
    ${notMay && items.length > 0 && html`<p class="why" role="note">${notMay}</p>`}
    ${asking?.approve && html`<${Approve} machine=${asking.machine} onClose=${() => setAsking(undefined)} onDone=${pending.again} />`}
    ${
      asking?.approve === false &&
      html`<${Dialog} title=${`Turn ${asking.machine.code} away?`} action="Reject"
        onConfirm=${async () => {
          await change(`pending/${encodeURIComponent(asking.machine.code)}/reject`, {})
          pending.again()
        }} onClose=${() => setAsking(undefined)}>
      <p>The machine is told so, and is not listed again for a day.</p></${Dialog}>`
    }
  </section>`
}

interface ApproveProps {
  readonly machine: PendingMachine
  readonly onClose: () => void
  readonly onDone: () => void
}

function Approve({ machine, onClose, onDone }: ApproveProps): VNode {
  const profiles = useApi<Page<ProfileView, string>>('profiles?limit=1000')
  const [name, setName] = useState('')
  const [profile, setProfile] = useState('')
  const names = profiles.value?.items.map((one) => one.name) ?? []
  const blocked = name === '' ? 'give it a name' : profile === '' ? 'choose a profile' : undefined
  const confirm = async (): Promise<void> => {
    await change(`pending/${encodeURIComponent(machine.code)}/approve`, { body: { name, profile } })
    onDone()
  }
  return html`<${Dialog} title=${`Approve ${machine.code}`} action="Approve" blocked=${blocked} onConfirm=${confirm} onClose=${onClose}>
    <p>Is <code>${machine.code}</code> the code on the console of the machine that you mean?</p>
    <label>Name <input required maxlength="253" spellcheck="false" value=${name} onInput=${(event: Event) => setName((event.currentTarget as HTMLInputElement).value)} /></label>
    <label>Profile <select required value=${profile} onChange=${(event: Event) => setProfile((event.currentTarget as HTMLSelectElement).value)}>
      <option value="">…</option>${names.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}</select></label>
  </${Dialog}>`
}
