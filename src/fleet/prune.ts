import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import { type Digest, parseDigest } from '../domain/digest.ts'
import { parseManifest } from '../domain/image.ts'
import { PawlError } from '../errors.ts'
import type { ArtifactStore } from '../images/artifacts.ts'
import type { Queries } from '../storage/database.ts'
import { deleteImage, listImages, lockImages } from '../storage/images.ts'
import {
  beginRemovals,
  endRemoval,
  findHeld,
  findRemovals,
  forgetOldRemovals,
  forgetRemoval,
  listUnfinishedRemovals,
  lockArtifacts,
} from '../storage/removals.ts'
import { type By, type Change, change } from './change.ts'
import { findUses, type Uses } from './image-uses.ts'

/**
 * Pruning removes what nothing uses: first versions that the rule does not keep, then bytes that no version names. The order
 * makes it safe beside publishes: a removal is written down, in a transaction that sees every image, before a byte goes;
 * whatever is published later looks there, and is told to send the bytes again.
 */

/** Which versions are kept even where nothing uses them. */
export interface RetentionRule {
  /** The newest of each name. */
  readonly keep: number
  /** Those that are not this old, seconds. */
  readonly olderThanSeconds: number
}

/** What is removed, or would be. */
export interface PrunePlan {
  readonly versions: readonly { readonly ref: string; readonly createdAt: string }[]
  readonly artifacts: readonly { readonly digest: string; readonly size: number }[]
  /** Of the artifacts, together. */
  readonly bytes: number
  /** Versions that the rule does not keep, and by what they are used. */
  readonly used: readonly { readonly ref: string; readonly by: string }[]
  /** False for a preview. */
  readonly applied: boolean
}

/** What of the artifact store is needed to remove from it. */
export type PrunableStore = Pick<ArtifactStore, 'list' | 'remove'>

/** Bytes that were sent less long ago may belong to a publish that is under way: its manifest comes last. */
const graceSeconds = 86_400

/** Says what would be removed, or removes it. */
export async function prune(
  context: BootContext,
  by: By,
  store: PrunableStore,
  rule: RetentionRule,
  options: { readonly dryRun: boolean },
): Promise<PrunePlan> {
  const plan = await planOf(context, store, rule)
  if (options.dryRun) return plan
  await finishRemovals(context, store)
  await removeVersions(context, by, plan, rule)
  for (let at = 0; at < plan.artifacts.length; at += 100)
    await removeArtifacts(context, by, store, plan.artifacts.slice(at, at + 100))
  return { ...plan, applied: true }
}

/** Refuses bytes whose old copy is being removed at this moment. Asked before an upload is taken in. */
export async function refuseWhileRemoved(context: BootContext, digest: Digest): Promise<void> {
  const [removal] = await findRemovals(context.storage.db, [digest])
  if (removal === undefined || removal.removed_at !== null) return
  throw new PawlError('conflict', `artifact ${digest} is being removed at this moment`, {
    hint: 'send it again in a minute',
  })
}

/** Whether an artifact is being removed, or was and has not been sent again: whatever the store says, it is not there. */
export async function isRemoved(context: BootContext, digest: Digest): Promise<boolean> {
  return (await findRemovals(context.storage.db, [digest])).length > 0
}

/** Notes that bytes which had been removed are there again. */
export async function noteStored(context: BootContext, digest: Digest): Promise<void> {
  const [removal] = await findRemovals(context.storage.db, [digest])
  if (removal === undefined) return
  await context.storage.transaction((tx) => forgetRemoval(tx, digest))
}

/** In the transaction that publishes: throws `conflict` where an artifact was removed since its bytes were checked. */
export async function refuseRemoved({ tx, context }: Change, digests: readonly string[]): Promise<void> {
  await lockArtifacts(tx, context.storage.dialect)
  const [removal] = await findRemovals(tx, digests)
  if (removal === undefined) return
  throw new PawlError('conflict', `artifact ${removal.digest} was pruned a moment ago`, {
    hint: 'publish again: it is sent anew',
  })
}

async function planOf(context: BootContext, store: PrunableStore, rule: RetentionRule): Promise<PrunePlan> {
  const { db } = context.storage
  const now = context.clock()
  const uses = await findUses(db)
  const candidates = await beyondRule(db, rule, now)
  const versions = candidates.filter(({ ref }) => !uses.versions.has(ref))
  const going = new Set(versions.map(({ ref }) => ref))
  const held = await heldWithout(db, going)
  const artifacts: { digest: Digest; size: number }[] = []
  for await (const { digest, size, modifiedAt } of store.list()) {
    const young = modifiedAt > addSeconds(now, -graceSeconds)
    if (!young && !held.has(digest) && !uses.artifacts.has(digest)) artifacts.push({ digest, size })
  }
  return {
    versions: versions.map(({ ref, createdAt }) => ({ ref, createdAt })),
    artifacts,
    bytes: artifacts.reduce((total, { size }) => total + size, 0),
    used: candidates.flatMap(({ ref }) => usedBy(uses, ref)),
    applied: false,
  }
}

function usedBy(uses: Uses, ref: string): { ref: string; by: string }[] {
  const by = uses.versions.get(ref)
  return by === undefined ? [] : [{ ref, by }]
}

/** Versions that the rule does not keep. */
async function beyondRule(
  db: Queries,
  { keep, olderThanSeconds }: RetentionRule,
  now: Date,
): Promise<{ ref: string; createdAt: string }[]> {
  const before = addSeconds(now, -olderThanSeconds).toISOString()
  const seen = new Map<string, number>()
  return (await listImages(db)).flatMap(({ name, version, created_at }) => {
    const newer = seen.get(name) ?? 0 // listed by name, the newest first
    seen.set(name, newer + 1)
    return newer >= keep && created_at < before ? [{ ref: `${name}@${version}`, createdAt: created_at }] : []
  })
}

/** Artifacts that images hold once these versions are gone. */
async function heldWithout(db: Queries, going: ReadonlySet<string>): Promise<Set<string>> {
  const staying = (await listImages(db)).filter(({ name, version }) => !going.has(`${name}@${version}`))
  return new Set(
    staying.flatMap(({ manifest }) =>
      parseManifest(JSON.parse(manifest)).artifacts.map(({ digest }) => digest as string),
    ),
  )
}

/** Asked anew in the transaction: what came into use since the plan was made stays. */
async function removeVersions(
  context: BootContext,
  by: By,
  plan: PrunePlan,
  rule: RetentionRule,
): Promise<void> {
  if (plan.versions.length === 0) return
  await change(context, by, async ({ tx, now, note }) => {
    await lockArtifacts(tx, context.storage.dialect)
    // Who begins to use one of them waits from here on, or has been seen.
    await lockImages(tx, context.storage.dialect, plan.versions.map(partsOf))
    const uses = await findUses(tx)
    const still = new Set((await beyondRule(tx, rule, now)).map(({ ref }) => ref))
    const going = plan.versions.filter(({ ref }) => still.has(ref) && !uses.versions.has(ref))
    for (const { name, version } of going.map(partsOf)) await deleteImage(tx, name, version, now)
    if (going.length === 0) return
    await note('images-pruned', null, {
      count: going.length,
      versions: going.slice(0, 100).map(({ ref }) => ref),
    })
  })
}

function partsOf({ ref }: { readonly ref: string }): { name: string; version: string } {
  const [name = '', version = ''] = ref.split('@')
  return { name, version }
}

/** Removes the bytes of those that no version has and nothing waits for; returns which. */
export async function removeArtifacts(
  context: BootContext,
  by: By,
  store: PrunableStore,
  artifacts: PrunePlan['artifacts'],
): Promise<readonly string[]> {
  const removing = await change(context, by, async ({ tx, now }) => {
    await lockArtifacts(tx, context.storage.dialect)
    const digests = artifacts.map(({ digest }) => digest)
    const held = await findHeld(tx, digests)
    const uses = await findUses(tx)
    const going = digests.filter((digest) => !held.has(digest) && !uses.artifacts.has(digest))
    await beginRemovals(tx, going, now)
    return going
  })
  for (const digest of removing) await removeOne(context, store, digest)
  return removing
}

async function removeOne(context: BootContext, store: PrunableStore, digest: string): Promise<void> {
  await store.remove(parseDigest(digest))
  await context.storage.transaction((tx) => endRemoval(tx, digest, context.clock()))
}

/** Goes on with what a killed process began, or a store that was away kept it from. */
export async function finishRemovals(context: BootContext, store: PrunableStore): Promise<void> {
  for (const digest of await listUnfinishedRemovals(context.storage.db))
    await removeOne(context, store, digest)
  const before = addSeconds(context.clock(), -graceSeconds)
  await context.storage.transaction((tx) => forgetOldRemovals(tx, before))
}
