import { formatChannelRef, type ImageSource, parseImageSource } from '../domain/channel.ts'
import { formatImageRef, type ImageRef, parseImageVersion } from '../domain/image.ts'
import { Refusal } from '../domain/refusal.ts'
import { findChannel } from '../storage/channels.ts'
import type { Tx } from '../storage/database.ts'
import type { RolloutNodeRow, RolloutRow } from '../storage/image-tables.ts'
import { type SignedImage, useSignedImage } from '../storage/publishers.ts'
import { findLiveRollout, findRolloutNode } from '../storage/rollouts.ts'
import type { NodeRow } from '../storage/tables.ts'
import type { Work } from './work.ts'

/** Through what a session came to its version: kept with it, and shown in its timeline. */
export interface Via {
  /** `name/channel`. */
  readonly channel: string
  /** The rollout that was on. */
  readonly rollout?: string
  /** The node's wave; left out for a node that joined the fleet after the rollout began. */
  readonly wave?: number
  /** Whether the node got the version that is rolled out, or the one before. */
  readonly gets?: 'new' | 'before'
}

/** The version that a node boots now. */
export interface Resolved {
  readonly ref: ImageRef
  readonly row: SignedImage
  readonly via?: Via
}

/**
 * Finds the version that a profile's `name@version` or `name/channel` means for this node at this moment. It is asked once
 * a session, at stage 1. Refuses where nothing is published under it.
 */
export async function resolveImage(
  { tx }: Pick<Work, 'tx'>,
  node: NodeRow,
  written: string,
): Promise<Resolved> {
  const source = parseImageSource(written)
  const { version, via } =
    source.kind === 'version' ? { version: source.version, via: undefined } : await follow(tx, node, source)
  const ref: ImageRef = { name: source.name, version: parseImageVersion(version) }
  const row = await useSignedImage(tx, ref.name, ref.version)
  if (row === undefined) {
    throw new Refusal('image-missing', { node: node.name, detail: { image: formatImageRef(ref) } })
  }
  return { ref, row, ...(via === undefined ? {} : { via }) }
}

async function follow(
  tx: Tx,
  node: NodeRow,
  source: ImageSource & { kind: 'channel' },
): Promise<{ version: string; via: Via }> {
  const channel = formatChannelRef(source)
  const row = await findChannel(tx, source)
  if (row === undefined || row.version === null)
    throw new Refusal('channel-empty', { node: node.name, detail: { channel } })
  const rollout = await findLiveRollout(tx, source)
  if (rollout === undefined) return { version: row.version, via: { channel } }
  const place = await findRolloutNode(tx, rollout.id, node.id)
  const gets = place !== undefined && isTurn(rollout, place) ? 'new' : 'before'
  return {
    version: gets === 'new' ? rollout.version : rollout.before,
    via: { channel, rollout: rollout.id, gets, ...(place === undefined ? {} : { wave: place.wave }) },
  }
}

/**
 * A node that failed gets the version before: it is of more use that way. A paused rollout gives the new version to nobody
 * who did not have it before.
 */
function isTurn(rollout: RolloutRow, place: RolloutNodeRow): boolean {
  if (place.state === 'failed') return false
  return place.wave <= rollout.wave && (rollout.state === 'running' || place.state !== 'waiting')
}
