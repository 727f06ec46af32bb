import { type Children, html, type VNode } from '../html.ts'

/** What is wider than a phone is moved sideways, by keys too. */
export function Scroll({ label, children }: { label: string; children?: Children }): VNode {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}>${children}</div>`
}
