import { type ChannelRef, formatChannelRef } from '../domain/channel.ts'
import { formatImageRef, type Manifest, parseManifest } from '../domain/image.ts'
import { type Profile, sourcesOf, stage2ImagesOf } from '../domain/profile.ts'
import { isPawlError, PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import { allProfiles, useImage } from '../storage/fleet.ts'
import type { ChannelRow } from '../storage/image-tables.ts'
import { findLastTest } from '../storage/image-tests.ts'
import type { Change } from './change.ts'
import { checkScope } from './operators.ts'
import { checkFits } from './profiles.ts'

/** Whether some profile boots images of this name as its stage 2: these check all that follows, and change less easily. */
export async function isStage2Image(db: Queries, name: string): Promise<boolean> {
  return (await usesIn(db)).stage2.has(name)
}

/** Whether a change of this channel needs a second person: its own rule, or the stage-2 image of some profile. */
export async function needsSecondPerson(change: Change, row: ChannelRow): Promise<boolean> {
  if (row.two_person === 1) return true
  return change.by.role !== 'admin' && (await isStage2Image(change.tx, row.name))
}

/**
 * Checks that a channel may point at a version: it is published, tested where the channel wants that, within the token's
 * scope, and every profile that follows the channel can boot it.
 */
export async function checkMayServe(
  change: Change,
  ref: ChannelRef,
  row: ChannelRow,
  version: string,
  options: { readonly servedBefore?: boolean } = {},
): Promise<void> {
  checkScope(change.by, ref.name)
  const image = await useImage(change.tx, change.context.storage.dialect, ref.name, version)
  if (image === undefined) {
    throw new PawlError('not-found', `image "${ref.name}@${version}" is not published`, {
      hint: 'list them with pawl image list',
    })
  }
  // Back to what it has served is always open: a rule that came later must not stand in the way of mending.
  if (row.require_test === 1 && options.servedBefore !== true) await checkTested(change, ref, version)
  const manifest = parseManifest(JSON.parse(image.manifest))
  const { followers } = await usesIn(change.tx)
  for (const profile of followers.get(formatChannelRef(ref)) ?? [])
    checkBoots(profile, manifest, formatChannelRef(ref))
}

async function checkTested(change: Change, ref: ChannelRef, version: string): Promise<void> {
  const last = await findLastTest(change.tx, ref.name, version)
  if (last?.passed === 1) return
  const image = `${ref.name}@${version}`
  throw new PawlError(
    'conflict',
    `channel ${formatChannelRef(ref)} takes tested versions only, and ${image} ${last === undefined ? 'has no test' : 'failed its last one'}`,
    { hint: `test it with pawl image test ${image}` },
  )
}

function checkBoots(profile: Profile, manifest: Manifest, written: string): void {
  try {
    checkFits(profile, manifest, written)
  } catch (error) {
    if (!isPawlError(error, 'invalid')) throw error
    throw new PawlError(
      'conflict',
      `profile "${profile.name}" cannot boot ${formatImageRef(manifest)}: ${error.message}`,
    )
  }
}

/** What profiles boot, by what they boot. */
interface Uses {
  /** Profiles by the image sources that they name. */
  readonly followers: ReadonlyMap<string, readonly Profile[]>
  /** Names of images that some profile boots as its stage 2. */
  readonly stage2: ReadonlySet<string>
}

const found = new WeakMap<readonly Profile[], Uses>()

/** Found once for each reading of the profiles, so that a change of every channel does not go through all profiles for each. */
async function usesIn(db: Queries): Promise<Uses> {
  const profiles = await allProfiles(db)
  const known = found.get(profiles)
  if (known !== undefined) return known
  const named = profiles.flatMap((profile) => sourcesOf(profile).map((source) => ({ source, profile })))
  const followers = new Map(
    [...Map.groupBy(named, ({ source }) => source)].map(([source, some]) => [
      source,
      some.map(({ profile }) => profile),
    ]),
  )
  const uses = { followers, stage2: new Set(profiles.flatMap(stage2ImagesOf)) }
  found.set(profiles, uses)
  return uses
}
