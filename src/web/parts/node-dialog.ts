import { type NodeAction, previewReinstall, reinstall, setEnabled } from '../actions.ts'
import { touch } from '../fleet-store.ts'
import { count } from '../format.ts'
import { apiError } from '../hooks.ts'
import { html, useEffect, useState, type VNode } from '../html.ts'
import type { ReinstallPlan } from '../shapes.ts'
import { Dialog, Fault } from './dialog.ts'

interface NodeDialogProps {
  readonly action: NodeAction
  readonly nodes: readonly string[]
  readonly onClose: () => void
  readonly onDone?: () => void
}

/** Names that a list shows before it says how many more there are. */
const named = 12
/** How many the API takes by name in one request. */
const maxNamed = 1000

/** Asks before an action on nodes, with the same preview that the command line has. */
export function NodeDialog({ action, nodes, onClose, onDone }: NodeDialogProps): VNode {
  const isMark = action.name === 'reinstall' || action.name === 'cancel'
  const [plan, setPlan] = useState<ReinstallPlan>()
  const [fault, setFault] = useState<{ message: string; hint?: string | undefined }>()
  const [parallel, setParallel] = useState('')
  useEffect(() => {
    if (!isMark || nodes.length > maxNamed) return
    previewReinstall(nodes, action.name === 'cancel').then(setPlan, (error: unknown) => {
      const { message, hint } = apiError(error)
      setFault({ message, hint })
    })
  }, [])
  const confirm = async (): Promise<void> => {
    if (isMark) {
      const limits = parallel === '' ? {} : { maxParallel: Number(parallel) }
      await reinstall(nodes, action.name === 'cancel', action.name === 'cancel' ? {} : limits)
    } else for (const name of nodes) await setEnabled(name, action.name === 'enable')
    touch(nodes)
    onDone?.()
  }
  const tooMany =
    nodes.length > maxNamed
      ? `at most ${maxNamed} nodes at once here; pawl node reinstall takes a label or a pattern`
      : undefined
  const blocked =
    tooMany ?? (fault === undefined ? (isMark && plan === undefined ? 'looking…' : undefined) : 'see above')
  return html`<${Dialog} title=${`${action.words}: ${count(nodes.length, 'node')}`} action=${action.words}
      blocked=${blocked} onConfirm=${confirm} onClose=${onClose}>
    ${fault && html`<${Fault} message=${fault.message} hint=${fault.hint} />`}
    ${isMark ? html`<${Plan} plan=${plan} />` : html`<${Names} names=${nodes} />`}
    ${action.name === 'reinstall' && html`<p>The next boot of each is the profile's <em>reinstall</em> sequence.</p>`}
    ${action.name === 'disable' && html`<p>Boots that are under way end at once, and nothing is served to it until it is enabled.</p>`}
    ${
      action.name === 'reinstall' &&
      nodes.length > 1 &&
      html`<label>At most so many at once
      <input type="number" min="1" max="1000" placeholder="no limit" value=${parallel}
        onInput=${(event: Event) => setParallel((event.currentTarget as HTMLInputElement).value)} /></label>`
    }
  </${Dialog}>`
}

function Plan({ plan }: { plan: ReinstallPlan | undefined }): VNode | null {
  if (plan === undefined) return null
  const changes = plan.nodes.filter(({ before, after }) => before !== after)
  const rest = plan.nodes.length - changes.length
  const warnings = plan.nodes.filter(({ warning, skipped }) => warning !== undefined || skipped !== undefined)
  const stay = rest === 0 ? '' : rest === 1 ? ', 1 stays as it is' : `, ${rest} stay as they are`
  return html`<p>${count(changes.length, 'node')} ${changes.length === 1 ? 'changes' : 'change'}${stay}.</p>
    <${Names} names=${changes.map(({ name }) => name)} />
    ${
      warnings.length > 0 &&
      html`<ul class="warnings">${warnings
        .slice(0, named)
        .map(
          ({ name, warning, skipped }) =>
            html`<li key=${name}><strong>${name}</strong>: ${warning ?? skipped}</li>`,
        )}</ul>`
    }`
}

function Names({ names }: { names: readonly string[] }): VNode {
  const rest = names.length - named
  return html`<p class="names">${names.slice(0, named).join(', ')}${rest > 0 && ` and ${count(rest, 'other')}`}</p>`
}
