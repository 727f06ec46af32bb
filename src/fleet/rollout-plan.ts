import { type ChannelRef, formatChannelRef } from '../domain/channel.ts'
import { type Profile, sourcesOf } from '../domain/profile.ts'
import { planWaves, type RolloutPlan } from '../domain/rollout.ts'
import { listMembers, listProfiles, readProfile } from '../storage/fleet.ts'
import type { Change } from './change.ts'

/** A rollout to start. Times in seconds, thresholds in percent. */
export interface NewRollout {
  readonly version: string
  /** `["1", "10%", "50%", "100%"]`. */
  readonly waves: readonly string[]
  /** `KEY=VALUE`: only nodes that have it are in the waves. */
  readonly label?: string
  readonly thresholdPercent?: number
  readonly minBoots?: number
  readonly maxFailures?: number
  readonly waveTimeoutSeconds?: number
  readonly why?: string
}

const day = 86_400

/** A node that follows a channel. */
export interface Follower {
  readonly id: string
  readonly name: string
  readonly labels: string
}

/** The nodes whose profile follows the channel in one of its sequences; disabled ones boot nothing. */
export async function followersOf({ tx }: Change, ref: ChannelRef): Promise<Follower[]> {
  const written = formatChannelRef(ref)
  const profiles = (await listProfiles(tx))
    .map(readProfile)
    .filter((profile: Profile) => sourcesOf(profile).includes(written))
  return listMembers(
    tx,
    profiles.map(({ name }) => name),
  )
}

/** What was asked for, with every default filled in. */
export function planOf(asked: NewRollout, nodes: number): RolloutPlan {
  return {
    waves: planWaves(asked.waves, nodes),
    label: asked.label ?? null,
    thresholdPercent: asked.thresholdPercent ?? 95,
    minBoots: asked.minBoots ?? null,
    maxFailures: asked.maxFailures ?? null,
    waveTimeoutSeconds: asked.waveTimeoutSeconds ?? 7 * day,
  }
}

/** Those behind the last wave's end are in none: they wait for the channel itself. */
export function waveOf(plan: RolloutPlan, index: number): number {
  const wave = plan.waves.findIndex(({ nodes }) => index < nodes)
  return wave === -1 ? plan.waves.length + 1 : wave + 1
}
