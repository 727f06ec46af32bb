import { useToken, whoAmI } from '../api.ts'
import { apiError } from '../hooks.ts'
import { html, useState, type VNode } from '../html.ts'
import { Fault } from '../parts/dialog.ts'
import type { Whoami } from '../shapes.ts'

/** The way in: the provider's, where there is one, or an operator token. */
export function SignInPage({ onSignedIn }: { onSignedIn: (who: Whoami) => void }): VNode {
  const [token, setToken] = useState('')
  const [fault, setFault] = useState<{ message: string; hint?: string | undefined }>()
  const byProvider = document.documentElement.dataset.signIn === 'provider'
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault()
    setFault(undefined)
    useToken(token.trim())
    try {
      const who = await whoAmI()
      if (who !== undefined) return onSignedIn(who)
      setFault({
        message: 'this token opens nothing',
        hint: 'look for a missing character, or whether it was revoked',
      })
    } catch (error) {
      const { message, hint } = apiError(error)
      setFault({ message, hint })
    }
    useToken(undefined)
  }
  return html`<main class="sign-in">
    <h1>Pawl</h1>
    ${byProvider && html`<p><a class="button primary" href="/auth/login?to=/">Sign in</a></p><p>or, with an operator token:</p>`}
    <form onSubmit=${submit}>
      <label>Operator token
        <input type="password" autocomplete="off" spellcheck="false" required value=${token}
          onInput=${(event: Event) => setToken((event.currentTarget as HTMLInputElement).value)} /></label>
      <button class="primary">Sign in</button>
    </form>
    ${fault && html`<${Fault} message=${fault.message} hint=${fault.hint} />`}
    <p class="note">The first token is in the server's data folder, <code>admin.token</code>; others by <code>pawl operator token create</code>. It is kept in this tab until you close it.</p>
  </main>`
}
