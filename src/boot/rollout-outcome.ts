import { judge, type RolloutNodeState, type RolloutPlan, type WaveCounts } from '../domain/rollout.ts'
import { moveChannel } from '../storage/channels.ts'
import type { RolloutRow } from '../storage/image-tables.ts'
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

/** Notes that a session has got a version that is being rolled out. */
export async function noteRolloutBoot(work: Work, session: SessionRow, pinned: Pinned): Promise<void> {
  for (const rollout of rolloutsOf(pinned)) {
    await updateRolloutNode(work.tx, rollout, session.node, { state: 'booting', session: session.id })
  }
}

/**
 * Notes how the boot of a version that is being rolled out ended, and judges its wave: in the same transaction as the end
 * itself, so that no failure is counted late. `waiting` takes a boot back that says nothing about the image.
 */
export async function noteRolloutEnd(
  work: Work,
  session: SessionRow,
  outcome: Exclude<RolloutNodeState, 'booting'>,
): Promise<void> {
  for (const id of rolloutsOf(readPinned(session.pinned))) {
    const place = await findRolloutNode(work.tx, id, session.node)
    // A later session of this node has it now.
    if (place?.session !== session.id) continue
    const rollout = await lockRollout(work.tx, work.context.storage.dialect, id)
    await updateRolloutNode(work.tx, id, session.node, { state: outcome })
    if (rollout?.state === 'running') await judgeWave(work, rollout)
  }
}

/** Judges a running rollout's wave: goes on, moves the channel behind the last one, or halts. The row must be locked. */
export async function judgeWave(work: Work, rollout: RolloutRow): Promise<void> {
  const plan = readPlan(rollout)
  const verdict = judge(plan, rollout.wave, await countWave(work, rollout))
  if (verdict.next === 'halt') return halt(work, rollout, verdict.cause)
  if (verdict.next === 'complete') return complete(work, rollout)
  if (verdict.next === 'wait') return
  const wave = rollout.wave + 1
  const now = work.now.toISOString()
  await updateRollout(work.tx, rollout.id, { wave, wave_started_at: now })
  await note(work, rollout, 'rollout-advanced', { wave, nodes: plan.waves[wave - 1]?.nodes ?? 0 })
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
