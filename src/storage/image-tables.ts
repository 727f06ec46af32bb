import type { ProposalKind } from '../domain/proposal.ts'
import type { RolloutNodeState, RolloutState } from '../domain/rollout.ts'

/** Which image holds which artifact: the manifest's list, to ask by digest. */
export interface ImageArtifactRow {
  name: string
  version: string
  role: string
  digest: string
  size: number
}

/** An artifact that is being removed, or was: nothing may be published that names it until it is sent again. */
export interface ArtifactRemovalRow {
  digest: string
  started_at: string
  /** Null while its bytes may still be there. */
  removed_at: string | null
}

/** A version that was removed: its name is never given to other bytes. */
export interface PrunedImageRow {
  name: string
  version: string
  digest: string
  pruned_at: string
}

/** A test boot of an image version. */
export interface ImageTestRow {
  id: string
  name: string
  version: string
  passed: number
  detail: string
  tested_by: string
  tested_at: string
}

export interface ChannelRow {
  name: string
  channel: string
  /** Null until it is set for the first time. */
  version: string | null
  two_person: number
  require_test: number
  updated_at: string
  /** Counted up with each change. */
  revision: number
}

export interface ChannelMoveRow {
  name: string
  channel: string
  seq: number
  version: string
  before: string | null
  how: 'set' | 'rollback' | 'rollout'
  why: string | null
  moved_by: string
  approved_by: string | null
  moved_at: string
}

/** A change that waits for a second person. */
export interface ProposalRow {
  id: string
  kind: ProposalKind
  /** What it is about, in words: `worker/stable`. */
  subject: string
  /** The change itself, as JSON. */
  document: string
  why: string | null
  state: 'waiting' | 'approved' | 'rejected' | 'expired'
  proposed_by: string
  proposed_at: string
  expires_at: string
  decided_by: string | null
  decided_at: string | null
}

export interface RolloutRow {
  id: string
  name: string
  channel: string
  version: string
  /** The channel's version when it began: what nodes outside the waves get, and all of them when it does not succeed. */
  before: string
  /** A `RolloutPlan`, as JSON. */
  plan: string
  state: RolloutState
  /** The wave that is on, from 1. */
  wave: number
  wave_started_at: string
  cause: string | null
  why: string | null
  started_by: string
  approved_by: string | null
  started_at: string
  ended_at: string | null
}

export interface RolloutNodeRow {
  rollout: string
  /** The node's id. */
  node: string
  wave: number
  state: RolloutNodeState
  /** The session that was given the new version, the last one. */
  session: string | null
  /** Stage 1s asked again at once, one behind the other. */
  repeats: number
}
