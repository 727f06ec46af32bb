import { html, type VNode } from '../html.ts'

/** How a state is to be seen: a word is always beside the colour. */
const tones: Readonly<Record<string, string>> = {
  ready: 'good',
  completed: 'good',
  approved: 'good',
  succeeded: 'good',
  done: 'good',
  booting: 'busy',
  running: 'busy',
  open: 'busy',
  serving: 'busy',
  draining: 'busy',
  rebooting: 'busy',
  cancelling: 'busy',
  marked: 'note',
  waiting: 'note',
  paused: 'note',
  held: 'note',
  registered: 'idle',
  slow: 'note',
  failed: 'bad',
  stuck: 'bad',
  looping: 'bad',
  expired: 'bad',
  halted: 'bad',
  aborted: 'bad',
  superseded: 'idle',
  disabled: 'idle',
}

/** A state as a coloured word. */
export function Badge({ state }: { state: string }): VNode {
  return html`<span class=${`badge ${tones[state] ?? 'idle'}`}>${state}</span>`
}
