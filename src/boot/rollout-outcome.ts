import { judge, type RolloutNodeState, type RolloutPlan, type WaveCounts } from '../domain/rollout.ts'
import { findChannel, moveChannel } from '../storage/channels.ts'
import type { RolloutNodeRow, RolloutRow } from '../storage/image-tables.ts'
import { findLastTest } from '../storage/image-tests.ts'
import {
  countRolloutNodes,
  findRolloutNode,
  listRolloutNodeNames,
  lockRollout,
  updateRollout,
  updateRolloutNode,
} from '../storage/rollouts.ts'
import type { SessionRow } from '../storage/tables.ts'
import { type Pinned, readPinned } from './pin.ts'
import type { Work } from './work.ts'

/** How the boot of a version that is being rolled out ended. The last two say nothing about the image, by themselves. */
export type BootOutcome = 'succeeded' | 'failed' | 'repeated' | 'taken-back'

/** Stage 1s asked again at once that are more than a second NIC and a lost answer: the machine starts over and over. */
const maxRepeats = 3

/** Notes that a session has got a version that is being rolled out. What a node has proved before, it has proved. */
export async function noteRolloutBoot(work: Work, session: SessionRow, pinned: Pinned): Promise<void> {
  for (const rollout of rolloutsOf(pinned)) {
    const place = await findRolloutNode(work.tx, rollout, session.node)
    const state = place?.state === 'waiting' ? 'booting' : (place?.state ?? 'booting')
    await updateRolloutNode(work.tx, rollout, session.node, { state, session: session.id })
  }
}

/**
 * Notes how the boot of a version that is being rolled out ended, and judges its wave: in the same transaction as the end
 * itself, so that no failure is counted late. A node that failed has failed, whatever it does later: a machine that fails
 * and begins again for ever must not be a node that is booting.
 */
export async function noteRolloutEnd(work: Work, session: SessionRow, outcome: BootOutcome): Promise<void> {
  for (const id of rolloutsOf(readPinned(session.pinned))) {
    const place = await findRolloutNode(work.tx, id, session.node)
    // A later session of this node has it now.
    if (place?.session !== session.id) continue
    const rollout = await lockRollout(work.tx, work.context.storage.dialect, id)
    await updateRolloutNode(work.tx, id, session.node, placeAfter(place, outcome))
    if (rollout?.state === 'running') await judgeWave(work, rollout)
  }
}

function placeAfter(
  { state, repeats }: RolloutNodeRow,
  outcome: BootOutcome,
): Pick<RolloutNodeRow, 'state' | 'repeats'> {
  if (state === 'failed' || outcome === 'failed') return { state: 'failed', repeats }
  if (outcome === 'succeeded') return { state: 'succeeded', repeats: 0 }
  if (outcome === 'repeated' && repeats + 1 >= maxRepeats) return { state: 'failed', repeats: repeats + 1 }
  // It is booting still: the session that follows takes its place.
  if (outcome === 'repeated') return { state, repeats: repeats + 1 }
  return { state: state === 'booting' ? 'waiting' : state, repeats }
}

/**
 * Judges a running rollout's wave: goes on, moves the channel behind the last one, pauses or halts. The row must be locked.
 * The channel's rules are asked again before each step: they may be stricter than when the rollout began.
 */
export async function judgeWave(work: Work, rollout: RolloutRow): Promise<void> {
  const plan = readPlan(rollout)
  const verdict = judge(plan, rollout.wave, await countWave(work, rollout))
  if (verdict.next === 'halt') return halt(work, rollout, verdict.cause)
  if (verdict.next === 'wait') return
  if (verdict.next === 'pause') return pause(work, rollout, verdict.cause)
  const broken = await brokenRule(work, rollout)
  if (broken !== undefined) return pause(work, rollout, broken)
  if (verdict.next === 'complete') return complete(work, rollout)
  const wave = rollout.wave + 1
  const now = work.now.toISOString()
  await updateRollout(work.tx, rollout.id, { wave, wave_started_at: now })
  await note(work, rollout, 'rollout-advanced', { wave, nodes: plan.waves[wave - 1]?.nodes ?? 0 })
}

/** What the channel demands by now that this rollout does not have. */
async function brokenRule({ tx }: Work, rollout: RolloutRow): Promise<string | undefined> {
  const row = await findChannel(tx, rollout)
  if (row?.two_person === 1 && rollout.approved_by === null) return 'its channel wants two persons by now'
  if (row?.require_test !== 1) return undefined
  const last = await findLastTest(tx, rollout.name, rollout.version)
  return last?.passed === 1 ? undefined : `its channel wants a passed test of ${rollout.version} by now`
}

/** Gives the new version to nobody else until an operator looks. */
export async function pause(work: Work, rollout: RolloutRow, cause: string): Promise<void> {
  await updateRollout(work.tx, rollout.id, { state: 'paused', cause })
  await note(work, rollout, 'rollout-paused', { cause })
}

/** The plan that a rollout was started with. */
export function readPlan(rollout: RolloutRow): RolloutPlan {
  return JSON.parse(rollout.plan) as RolloutPlan // our own column
}

/** How the nodes of a rollout's waves so far stand. */
export async function countWave(work: Pick<Work, 'tx'>, rollout: RolloutRow): Promise<WaveCounts> {
  const none = (): Record<RolloutNodeState, number> => ({ waiting: 0, booting: 0, succeeded: 0, failed: 0 })
  const counts = { wave: none(), all: none() }
  for (const { wave, state, nodes } of await countRolloutNodes(work.tx, rollout.id)) {
    if (wave <= rollout.wave) counts.all[state] += nodes
    if (wave === rollout.wave) counts.wave[state] += nodes
  }
  return counts
}

/** Appends an event about a rollout. */
export function note(
  work: Work,
  rollout: RolloutRow,
  kind: 'rollout-advanced' | 'rollout-halted' | 'rollout-paused' | 'rollout-completed',
  detail: Record<string, unknown>,
): Promise<void> {
  return work.event({
    kind,
    node: null,
    session: null,
    actor: 'server',
    source: null,
    detail: { rollout: rollout.id, channel: `${rollout.name}/${rollout.channel}`, ...detail },
  })
}

/** The pointer never moved, so everyone's next boot is of the version before: that is the whole rolling back. */
async function halt(work: Work, rollout: RolloutRow, cause: string): Promise<void> {
  await updateRollout(work.tx, rollout.id, { state: 'halted', cause, ended_at: work.now.toISOString() })
  await note(work, rollout, 'rollout-halted', {
    version: rollout.version,
    servedAgain: rollout.before,
    cause,
    wave: rollout.wave,
    failed: await listRolloutNodeNames(work.tx, rollout.id, 'failed', 20),
  })
}

async function complete(work: Work, rollout: RolloutRow): Promise<void> {
  const { name, channel, version, before, why, started_by, approved_by } = rollout
  const now = work.now.toISOString()
  await updateRollout(work.tx, rollout.id, { state: 'completed', ended_at: now })
  await moveChannel(work.tx, {
    ...{ name, channel, version, before, why, how: 'rollout' },
    moved_by: started_by,
    approved_by,
    moved_at: now,
  })
  await note(work, rollout, 'rollout-completed', { version, before })
}

function rolloutsOf(pinned: Pinned): string[] {
  const { stage2, stage3 } = pinned.images ?? {}
  const ids = [stage2, stage3].flatMap((image) =>
    image?.via?.gets === 'new' && image.via.rollout !== undefined ? [image.via.rollout] : [],
  )
  return [...new Set(ids)]
}
