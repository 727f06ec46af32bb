import { readPlan } from '../boot/rollout-outcome.ts'
import { quote } from '../domain/node.ts'
import {
  allowedFailures,
  neededBoots,
  type RolloutNodeState,
  type RolloutPlan,
  type RolloutState,
} from '../domain/rollout.ts'
import { PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import type { RolloutRow } from '../storage/image-tables.ts'
import { pageOfRollouts } from '../storage/pages.ts'
import { countRolloutNodes, findRollout, listRolloutNodeNames } from '../storage/rollouts.ts'
import { type Listed, listed } from './listed.ts'

/** A wave, and how its nodes stand. */
export interface WaveView {
  readonly wave: number
  /** As it was asked for: `10%`. */
  readonly written: string
  /** Its own nodes, without those of the waves before. */
  readonly nodes: number
  readonly counts: Readonly<Record<RolloutNodeState, number>>
  /** How many of them must boot well before the next wave. */
  readonly needed: number
}

/** A rollout as operators see it. */
export interface RolloutView {
  readonly id: string
  readonly channel: string
  readonly version: string
  readonly before: string
  readonly state: RolloutState
  /** Why it is paused, halted or aborted. */
  readonly cause: string | null
  /** The wave that is on, from 1. */
  readonly wave: number
  readonly waveStartedAt: string
  readonly waves: readonly WaveView[]
  readonly plan: RolloutPlan
  /** How many of the nodes so far may fail. */
  readonly allowedFailures: number
  /** Names of nodes that failed, a hundred at most. */
  readonly failed: readonly string[]
  readonly why: string | null
  readonly by: string
  readonly approvedBy: string | null
  readonly startedAt: string
  readonly endedAt: string | null
}

/** The last hundred rollouts, the newest first. */
export async function listRollouts(
  db: Queries,
  page: Parameters<typeof pageOfRollouts>[1],
): Promise<Listed<RolloutView>> {
  return listed(await pageOfRollouts(db, page), (row) => rolloutView(db, row))
}

/** A rollout; throws `not-found`. */
export async function showRollout(db: Queries, id: string): Promise<RolloutView> {
  const row = await findRollout(db, id)
  if (row !== undefined) return rolloutView(db, row)
  throw new PawlError('not-found', `there is no rollout ${quote(id)}`, {
    hint: 'list them with pawl rollout list',
  })
}

/** A rollout with how its waves stand. */
export async function rolloutView(db: Queries, row: RolloutRow): Promise<RolloutView> {
  const plan = readPlan(row)
  const counts = await countRolloutNodes(db, row.id)
  const waves = plan.waves.map(({ written, nodes }, index): WaveView => {
    const own = nodes - (plan.waves[index - 1]?.nodes ?? 0)
    const none: Record<RolloutNodeState, number> = { waiting: 0, booting: 0, succeeded: 0, failed: 0 }
    for (const count of counts) if (count.wave === index + 1) none[count.state] += count.nodes
    return { wave: index + 1, written, nodes: own, counts: none, needed: neededBoots(plan, own) }
  })
  return {
    id: row.id,
    channel: `${row.name}/${row.channel}`,
    version: row.version,
    before: row.before,
    state: row.state,
    cause: row.cause,
    wave: row.wave,
    waveStartedAt: row.wave_started_at,
    waves,
    plan,
    allowedFailures: allowedFailures(plan, plan.waves[row.wave - 1]?.nodes ?? 0),
    failed: await listRolloutNodeNames(db, row.id, 'failed', 100),
    why: row.why,
    by: row.started_by,
    approvedBy: row.approved_by,
    startedAt: row.started_at,
    endedAt: row.ended_at,
  }
}
