import { isEnded, next, nodeTransitions, reinstallTransitions } from '../domain/state.ts'
import { change } from './api.ts'
import type { NodeView, OverviewNode, ReinstallPlan, Whoami } from './shapes.ts'

/** What may be done with a node: the words of the button, and why not now. The states are those of the server's own table. */
export interface NodeAction {
  readonly name: 'reinstall' | 'cancel' | 'disable' | 'enable' | 'arm'
  readonly words: string
  /** Undefined where it can be done. */
  readonly whyNot: (node: Actionable) => string | undefined
}

/** What of a node decides what may be done with it. */
export interface Actionable extends Pick<OverviewNode, 'state' | 'reinstall'> {
  /** It is held back since it boots again and again: in its line since when, on its page with until when. */
  readonly loopingSince?: string | null
  readonly looping?: unknown
}

/** The actions on nodes, in their order. */
export const nodeActions: readonly NodeAction[] = [
  {
    name: 'reinstall',
    words: 'Mark for reinstall',
    whyNot: ({ state, reinstall }) => {
      if (state === 'disabled') return 'the node is disabled: enable it first'
      if (reinstall === 'serving') return 'a reinstall is under way'
      return reinstall === 'marked' ? 'it is marked already' : undefined
    },
  },
  {
    name: 'cancel',
    words: 'Take the mark back',
    whyNot: ({ reinstall }) =>
      next(reinstallTransitions, reinstall, 'cancel') === undefined ? 'it is not marked' : undefined,
  },
  {
    name: 'disable',
    words: 'Disable',
    whyNot: ({ state }) =>
      next(nodeTransitions, state, 'disable') === undefined
        ? `a node that is ${state} cannot be disabled`
        : undefined,
  },
  {
    name: 'enable',
    words: 'Enable',
    whyNot: ({ state, loopingSince = null, looping = null }) => {
      if (loopingSince !== null || looping !== null) return undefined
      const isOpen = next(nodeTransitions, state, 'enable') ?? next(nodeTransitions, state, 'release')
      return isOpen === undefined ? 'it is enabled' : undefined
    },
  },
]

/** Why this person may not change nodes; undefined where it may. */
export function whyNotMay({ role }: Whoami): string | undefined {
  return role === 'operator' || role === 'admin' ? undefined : `your role is ${role}: this needs operator`
}

/** Why this person may not change what channels give out; undefined where it may. */
export function whyNotMove({ role }: Whoami): string | undefined {
  return role === 'viewer' ? 'your role is viewer: this needs operator or publisher' : undefined
}

/** What marking these nodes, or taking their marks back, would do. */
export function previewReinstall(nodes: readonly string[], cancel: boolean): Promise<ReinstallPlan> {
  return change<ReinstallPlan>('reinstall', { body: { nodes, cancel, dryRun: true } })
}

/** Does it: all of them or none. */
export function reinstall(
  nodes: readonly string[],
  cancel: boolean,
  limits: { readonly maxParallel?: number } = {},
): Promise<ReinstallPlan> {
  return change<ReinstallPlan>('reinstall', { body: { nodes, cancel, ...limits } })
}

/** Disables or enables a node. */
export function setEnabled(name: string, enabled: boolean): Promise<NodeView> {
  return change<NodeView>(`nodes/${encodeURIComponent(name)}/${enabled ? 'enable' : 'disable'}`, {})
}

/** Whether a session's state is its last. */
export { isEnded }
