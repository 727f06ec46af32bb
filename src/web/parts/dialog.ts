import { apiError } from '../hooks.ts'
import { type Children, html, useEffect, useRef, useState, type VNode } from '../html.ts'

/** A question before something is done. */
export interface DialogProps {
  readonly title: string
  /** What the button that does it says. */
  readonly action: string
  /** Why it cannot be done as things are; the button says so. */
  readonly blocked?: string | undefined
  readonly onConfirm: () => Promise<void>
  readonly onClose: () => void
  readonly children?: Children
}

/** Asks before something is done, and says why it failed. Escape closes it. */
export function Dialog({ title, action, blocked, onConfirm, onClose, children }: DialogProps): VNode {
  const dialog = useRef<HTMLDialogElement>(null)
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<{ message: string; hint?: string | undefined }>()
  useEffect(() => dialog.current?.showModal(), [])
  const confirm = async (event: Event): Promise<void> => {
    event.preventDefault()
    setBusy(true)
    setError(undefined)
    try {
      await onConfirm()
      onClose()
    } catch (failure) {
      const { message, hint } = apiError(failure)
      setError({ message, hint })
      setBusy(false)
    }
  }
  return html`<dialog ref=${dialog} onClose=${onClose} aria-labelledby="dialog-title">
    <form onSubmit=${confirm}>
      <h2 id="dialog-title">${title}</h2>
      ${children}
      ${error && html`<${Fault} message=${error.message} hint=${error.hint} />`}
      <p class="buttons">
        <button type="button" onClick=${onClose}>Back</button>
        <button class="primary" disabled=${busy || blocked !== undefined} title=${blocked}>${busy ? 'Working…' : action}</button>
        ${blocked && html`<span class="why">${blocked}</span>`}
      </p>
    </form>
  </dialog>`
}

/** What went wrong, and what to do. */
export function Fault({ message, hint }: { message: string; hint?: string | undefined }): VNode {
  return html`<p class="fault" role="alert"><strong>${message}.</strong>${hint && html` ${hint}.`}</p>`
}
