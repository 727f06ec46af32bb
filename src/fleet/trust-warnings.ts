import { trustOf } from '../boot/check-signature.ts'
import { formatImageRef, type ImageRef, parseImageName, parseImageVersion } from '../domain/image.ts'
import { type Profile, sourcesOf } from '../domain/profile.ts'
import type { Queries } from '../storage/database.ts'
import { listProfiles, readProfile } from '../storage/fleet.ts'

/** Says where boots of a profile would be refused for want of a signature; undefined where they would not. */
export async function trustWarning(
  db: Queries,
  profile: Profile,
  image: { readonly name: string; readonly version: string },
): Promise<string | undefined> {
  const ref: ImageRef = { name: parseImageName(image.name), version: parseImageVersion(image.version) }
  const { fault } = await trustOf(db, profile, ref)
  if (fault === undefined) return undefined
  const signed =
    fault.signedBy.length === 0 ? 'is not signed' : `is signed by ${fault.signedBy.join(', ')} only`
  return `image ${formatImageRef(ref)} ${signed}: boots of profile "${profile.name}" are refused until it is signed (pawl image sign), or the profile says acceptUnsigned: true`
}

/** The same for every profile that names this version itself; those that name a channel learn of it when the channel moves. */
export async function trustWarnings(db: Queries, ref: ImageRef): Promise<string[]> {
  const written = formatImageRef(ref)
  const profiles = (await listProfiles(db)).map(readProfile).filter((one) => sourcesOf(one).includes(written))
  const warnings = await Promise.all(profiles.map((profile) => trustWarning(db, profile, ref)))
  return warnings.filter((warning) => warning !== undefined)
}
