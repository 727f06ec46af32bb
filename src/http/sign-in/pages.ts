import { createHash } from 'node:crypto'

/**
 * The few pages that sign-in needs, as plain HTML: no script, nothing from elsewhere. Everything that is put into one goes
 * through `html`, which escapes it.
 */

/** Text that is HTML already. */
class Html {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** A page's HTML, whose values are escaped unless they are HTML of ours. */
export function html(parts: TemplateStringsArray, ...values: readonly (string | Html)[]): Html {
  const shown = values.map((value) => (value instanceof Html ? value.text : escaped(value)))
  return new Html(parts.map((part, index) => part + (shown[index] ?? '')).join(''))
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

/** Control and bidirectional characters are shown as `?`: what a stranger wrote must not look like something else. */
function escaped(text: string): string {
  return text
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')
    .replace(/[&<>"']/g, (letter) => entities[letter] ?? '')
}

const style =
  'body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem;color:#111;background:#fff}' +
  'dt{font-weight:600}code,input{font:inherit;font-family:monospace}button,input{padding:.3rem .6rem}' +
  '@media(prefers-color-scheme:dark){body{color:#eee;background:#111}a{color:#8bf}}'

/** What the pages may do: nothing but look as they do and send their forms here. */
export const pageHeaders = {
  'content-security-policy': `default-src 'none'; style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`,
  // With no-referrer a browser sends "Origin: null" with a form, and nobody could tell ours from others.
  'referrer-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'x-frame-options': 'DENY',
} as const

/** A whole page. */
export function page(title: string, body: Html): string {
  return html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title} · Pawl</title><style>${new Html(style)}</style></head>
<body><main><h1>${title}</h1>
${body}
</main></body></html>
`.text
}

/** Whoever is signed in, as the pages show it. */
export interface Signed {
  readonly name: string
  readonly role: string
  readonly expiresAt: string
  readonly csrf: string
}

/** Who one is, and the way out. */
export function signedInPage({ name, role, expiresAt, csrf }: Signed): string {
  return page(
    'Signed in',
    html`<dl><dt>You are</dt><dd><code>${name}</code></dd><dt>Role</dt><dd>${role}</dd><dt>Until</dt><dd>${expiresAt} at the latest</dd></dl>
<p><a href="/auth/device">Confirm the code of a command line</a></p>
<form method="post" action="/auth/logout"><input type="hidden" name="csrf" value="${csrf}"><button>Sign out</button></form>`,
  )
}

/** For whoever is not signed in. */
export function signedOutPage(canSignIn: boolean): string {
  return canSignIn
    ? page('Not signed in', html`<p><a href="/auth/login">Sign in</a></p>`)
    : page(
        'Pawl',
        html`<p>People cannot sign in here: no OpenID Connect provider is set up. The API at <code>/api/v1</code> takes operator tokens.</p>`,
      )
}

/** Where a person types the code that a command line shows. */
export function codePage({ csrf, name }: Signed): string {
  return page(
    'Confirm a command line',
    html`<p>You are <code>${name}</code>. Type the code that <code>pawl login</code> shows on <em>your own</em> screen.</p>
<form method="post" action="/auth/device"><input type="hidden" name="csrf" value="${csrf}"><input name="code" autocomplete="off" autocapitalize="off" spellcheck="false" maxlength="20" required autofocus> <button>Continue</button></form>`,
  )
}

/** Who asks, from where: the person decides. */
export function confirmPage(
  { csrf, name, role }: Signed,
  waiting: {
    readonly code: string
    readonly label: string
    readonly source: string
    readonly created_at: string
  },
): string {
  const fields = html`<input type="hidden" name="csrf" value="${csrf}"><input type="hidden" name="code" value="${waiting.code}">`
  return page(
    'Let this command line in?',
    html`<dl><dt>Code</dt><dd><code>${waiting.code}</code></dd><dt>It asks from</dt><dd><code>${waiting.source}</code></dd><dt>It says it is</dt><dd><code>${waiting.label}</code> (anybody can say so)</dd><dt>Since</dt><dd>${waiting.created_at}</dd></dl>
<p>It will be able to do what <code>${name}</code> may do as <strong>${role}</strong>. Say yes only if you ran <code>pawl login</code> there yourself, just now. Nobody else has a reason to send you a code.</p>
<form method="post" action="/auth/device/decide">${fields}<button name="decision" value="approve">Yes, that is me</button> <button name="decision" value="deny">No</button></form>`,
  )
}

/** The end of it. */
export function decidedPage(approved: boolean): string {
  return approved
    ? page('Confirmed', html`<p>The command line goes on by itself. You can close this page.</p>`)
    : page('Turned down', html`<p>The command line gets nothing. <a href="/">Back</a></p>`)
}

/** What went wrong, and what to do. */
export function errorPage(title: string, detail: string, hint: string | undefined): string {
  return page(
    title,
    html`<p>${detail}.</p>${hint === undefined ? '' : html`<p>${hint}.</p>`}<p><a href="/">Back</a></p>`,
  )
}
