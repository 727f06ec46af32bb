import { createHash } from 'node:crypto'
import { PawlError } from '../errors.ts'
import { quote } from './node.ts'

/**
 * A rollout gives a channel's new version to more and more nodes, each at its next boot. The pointer itself moves when the
 * last wave has passed: until then, and for ever when a wave fails, everyone else boots the version before.
 */

/** `halted`: a wave failed. `aborted`: an operator ended it. In both, and while it is not theirs, nodes get the old version. */
export type RolloutState = 'running' | 'paused' | 'halted' | 'aborted' | 'completed'

/** Where a node of a wave stands. */
export type RolloutNodeState = 'waiting' | 'booting' | 'succeeded' | 'failed'

/** What was decided when a rollout began. */
export interface RolloutPlan {
  /** How many nodes have it in the end of each wave, counted from the first; growing. */
  readonly waves: readonly { readonly written: string; readonly nodes: number }[]
  readonly label: string | null
  /** Of the boots of all waves so far, how many must not fail: percent. */
  readonly thresholdPercent: number
  /** How many nodes of a wave must have booted before the next; null: half of them, rounded up. */
  readonly minBoots: number | null
  /** How many nodes may fail in all; null: what the threshold allows. */
  readonly maxFailures: number | null
  /** A wave that has not passed by then pauses the rollout. */
  readonly waveTimeoutSeconds: number
}

/** How the nodes of the waves so far stand. */
export interface WaveCounts {
  /** Nodes of the current wave alone. */
  readonly wave: Readonly<Record<RolloutNodeState, number>>
  /** Nodes of all waves so far. */
  readonly all: Readonly<Record<RolloutNodeState, number>>
}

/** What comes next. */
export type Verdict =
  | { readonly next: 'wait' | 'advance' | 'complete' }
  | { readonly next: 'halt' | 'pause'; readonly cause: string }

/** Reads `1,10%,50%,100%` for a fleet of `total` nodes; throws `invalid`. Waves that would add no node are left out. */
export function planWaves(written: readonly string[], total: number): RolloutPlan['waves'] {
  if (written.length === 0 || written.length > 20)
    throw new PawlError('invalid', `a rollout has 1 to 20 waves, not ${written.length}`)
  const waves: { written: string; nodes: number }[] = []
  let last = 0
  for (const text of written) {
    const nodes = Math.min(total, sizeOf(text, total))
    if (nodes < last) throw new PawlError('invalid', `wave ${quote(text)} is smaller than the one before it`)
    if (nodes > last) waves.push({ written: text, nodes })
    last = nodes
  }
  return waves
}

/** Which place a node has in the order of a rollout: the same for all servers, and no node is always first. */
export function placeInRollout(rollout: string, node: string): string {
  return createHash('sha256').update(`${rollout}\n${node}`).digest('hex')
}

/**
 * Judges a wave by its boots. It halts as soon as the threshold can no longer be reached, not at the end. What counts are the
 * nodes that are still there: a wave whose nodes were removed must not wait for them.
 */
export function judge(plan: RolloutPlan, wave: number, counts: WaveCounts): Verdict {
  const nodes = sumOf(counts.all)
  const { failed } = counts.all
  const allowed = allowedFailures(plan, nodes)
  if (failed > allowed) {
    return { next: 'halt', cause: `${failed} of ${nodes} nodes failed, of which ${allowed} may` }
  }
  // Nodes that are gone prove nothing: the whole fleet must not get what nobody has booted.
  if (sumOf(counts.wave) === 0 && counts.all.succeeded === 0)
    return { next: 'pause', cause: `the nodes of wave ${wave} were removed before any of them was ready` }
  if (counts.wave.succeeded < neededBoots(plan, sumOf(counts.wave))) return { next: 'wait' }
  // Few boots, of which many failed, are not proof enough, however many may fail in all.
  const { succeeded } = counts.wave
  if (succeeded * 100 < plan.thresholdPercent * (succeeded + counts.wave.failed)) return { next: 'wait' }
  return { next: wave === plan.waves.length ? 'complete' : 'advance' }
}

function sumOf(counts: Readonly<Record<RolloutNodeState, number>>): number {
  return counts.waiting + counts.booting + counts.succeeded + counts.failed
}

/** How many nodes of a wave must boot well before the next. */
export function neededBoots(plan: RolloutPlan, waveNodes: number): number {
  return Math.min(waveNodes, plan.minBoots ?? Math.ceil(waveNodes / 2))
}

/** How many nodes may fail before the threshold is out of reach. */
export function allowedFailures(plan: RolloutPlan, nodes: number): number {
  return plan.maxFailures ?? Math.floor((nodes * (100 - plan.thresholdPercent)) / 100)
}

function sizeOf(text: string, total: number): number {
  const percent = /^(\d{1,3})%$/.exec(text)?.[1]
  if (percent !== undefined && Number(percent) >= 1 && Number(percent) <= 100)
    return Math.ceil((total * Number(percent)) / 100)
  if (/^[1-9]\d{0,6}$/.test(text)) return Number(text)
  throw new PawlError('invalid', `${quote(text)} is not the size of a wave`, {
    hint: 'a number of nodes or a percentage of them, such as 1,10%,50%,100%',
  })
}
