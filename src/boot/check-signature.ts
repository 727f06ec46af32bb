import { formatImageRef, type ImageRef } from '../domain/image.ts'
import type { Profile } from '../domain/profile.ts'
import { Refusal } from '../domain/refusal.ts'
import type { Queries } from '../storage/database.ts'
import { listSignersOf, type Signer } from '../storage/publishers.ts'

/** Whose signature makes an image good for a profile, and why none does. */
export interface Trust {
  /** Publishers that the profile trusts and that signed it, the earliest first. */
  readonly trusted: readonly string[]
  readonly fault?: { readonly why: 'image-unsigned' | 'publisher-not-trusted'; readonly signedBy: string[] }
}

/**
 * Looks up who signed an image, and whether that is enough for a profile. The signatures themselves were checked when they
 * were stored; whoever can change the database could change this answer too, so the node checks them again by keys of its own.
 */
export async function trustOf(db: Queries, profile: Profile, ref: ImageRef): Promise<Trust> {
  return trustIn(profile, await listSignersOf(db, ref.name, ref.version))
}

function trustIn(profile: Profile, signers: readonly Signer[]): Trust {
  const good = signers.filter(({ revoked_at }) => revoked_at === null).map(({ publisher }) => publisher)
  // Profiles stored by a version before this one have no such list.
  const trusted =
    profile.publishers === undefined ? good : good.filter((name) => profile.publishers?.includes(name))
  if (trusted.length > 0 || profile.acceptUnsigned) return { trusted }
  const signedBy = signers.map(
    ({ publisher, revoked_at }) => publisher + (revoked_at === null ? '' : ' (revoked)'),
  )
  return {
    trusted,
    fault: { why: signers.length === 0 ? 'image-unsigned' : 'publisher-not-trusted', signedBy },
  }
}

/** Refuses an image that nobody signed whom the profile trusts; returns who did. */
export function checkSigned(
  node: string,
  profile: Profile,
  ref: ImageRef,
  signers: readonly Signer[],
): readonly string[] {
  const { trusted, fault } = trustIn(profile, signers)
  if (fault === undefined) return trusted
  const { why, signedBy } = fault
  throw new Refusal(why, { node, detail: { image: formatImageRef(ref), signedBy } })
}
