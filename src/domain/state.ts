import { PawlError } from '../errors.ts'

/**
 * What sessions, nodes and reinstall marks may do, as three tables. Nothing else in Pawl changes a state: every
 * change is `next(table, state, event)`, and a pair that is not in its table is refused. The exhaustive test and the
 * diagrams in docs/boot-lifecycle.md are derived from these tables.
 */
export type Transitions<State extends string, Event extends string> = {
  readonly [S in State]: { readonly [E in Event]?: State }
}

/** A boot session's states. `ready` is reached by a success report, or at once by a `local` sequence. */
export type SessionState =
  | 'stage1'
  | 'stage2'
  | 'stage3'
  | 'joining'
  | 'ready'
  | 'failed'
  | 'expired'
  | 'superseded'

/** What can happen to a session. `epoxy-success`: profiles with `tokens: epoxy` have no join, so stage 3 is their last. */
export type SessionEvent =
  | 'redeem-stage2'
  | 'redeem-stage3'
  | 'redeem-join'
  | 'success'
  | 'epoxy-success'
  | 'fail'
  | 'expire'
  | 'supersede'

const ends = { fail: 'failed', expire: 'expired', supersede: 'superseded' } as const

export const sessionTransitions: Transitions<SessionState, SessionEvent> = {
  stage1: { 'redeem-stage2': 'stage2', ...ends },
  stage2: { 'redeem-stage3': 'stage3', ...ends },
  stage3: { 'redeem-join': 'joining', 'epoxy-success': 'ready', ...ends },
  joining: { success: 'ready', ...ends },
  ready: {},
  failed: {},
  expired: {},
  superseded: {},
}

/** A node's states. `discovered` machines wait for an operator and are no node yet. */
export type NodeState = 'discovered' | 'registered' | 'booting' | 'ready' | 'failed' | 'held' | 'disabled'

/** What can happen to a node. */
export type NodeEvent =
  | 'approve'
  | 'open-session'
  | 'boot-local'
  | 'session-ready'
  | 'session-failed'
  | 'hold'
  | 'release'
  | 'disable'
  | 'enable'

export const nodeTransitions: Transitions<NodeState, NodeEvent> = {
  discovered: { approve: 'registered' },
  registered: { 'open-session': 'booting', 'boot-local': 'ready', disable: 'disabled' },
  booting: {
    'open-session': 'booting',
    'boot-local': 'ready',
    'session-ready': 'ready',
    'session-failed': 'failed',
    hold: 'held',
    disable: 'disabled',
  },
  ready: { 'open-session': 'booting', 'boot-local': 'ready', disable: 'disabled' },
  failed: { 'open-session': 'booting', 'boot-local': 'ready', hold: 'held', disable: 'disabled' },
  held: { release: 'registered', disable: 'disabled' },
  disabled: { enable: 'registered' },
}

/** A node's reinstall mark: `serving` while a session runs the reinstall sequence. */
export type ReinstallState = 'none' | 'marked' | 'serving'

/** What can happen to a mark. `session-ended`: the serving session failed, expired or was superseded. */
export type ReinstallEvent = 'mark' | 'cancel' | 'expire' | 'serve' | 'success' | 'session-ended'

export const reinstallTransitions: Transitions<ReinstallState, ReinstallEvent> = {
  none: { mark: 'marked' },
  marked: { mark: 'marked', cancel: 'none', expire: 'none', serve: 'serving' },
  serving: { cancel: 'none', success: 'none', 'session-ended': 'marked' },
}

/** The state after `event`, or undefined where the table does not allow it. */
export function next<State extends string, Event extends string>(
  table: Transitions<State, Event>,
  state: State,
  event: Event,
): State | undefined {
  return table[state][event]
}

/** The state after `event`; throws `conflict` where the table does not allow it. `what` names the thing in the message. */
export function advance<State extends string, Event extends string>(
  table: Transitions<State, Event>,
  state: State,
  event: Event,
  what: string,
): State {
  const to = next(table, state, event)
  if (to === undefined) throw new PawlError('conflict', `${what} is ${state}, which does not allow ${event}`)
  return to
}

/** Whether a session in this state has ended. */
export function isEnded(state: SessionState): boolean {
  return Object.keys(sessionTransitions[state]).length === 0
}
