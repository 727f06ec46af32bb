import Type from 'typebox'
import { digestPattern } from '../../domain/digest.ts'
import type { Manifest } from '../../domain/image.ts'
import type { PendingMachine } from '../../fleet/enrolment.ts'
import type { ImageView, PublishedImage } from '../../fleet/images.ts'
import type { AppliedProfile, ProfileView } from '../../fleet/profiles.ts'
import { answers, anyObject, type Page, word } from './answers.ts'

/** What an approved machine becomes. */
export const approval = Type.Object(
  { name: Type.String({ maxLength: 253 }), profile: Type.String({ maxLength: 63 }) },
  { additionalProperties: false },
)

const pendingMachine = answers<PendingMachine>()(
  Type.Object({
    code: Type.String(),
    facts: Type.Unsafe<PendingMachine['facts']>(Type.Record(Type.String(), Type.String())),
    source: Type.String(),
    firstSeenAt: Type.String(),
    lastSeenAt: Type.String(),
    expiresAt: Type.String(),
  }),
)

/** The machines that wait; all of them, the list is bounded. */
export const pendingAnswer = answers<Page<PendingMachine, never>>()(
  Type.Object({ items: Type.Array(pendingMachine), next: Type.Null() }),
)

/** An artifact's path. */
export const artifactPath = Type.Object({ hex: Type.String({ pattern: digestPattern }) })

/** An artifact behind its upload. */
export const artifactAnswer = Type.Object({ digest: Type.String(), size: Type.Integer() })

/** An image's path. */
export const imagePath = Type.Object({ name: word, version: word })

/** Checked and described by domain/image.ts: a manifest is one document, whole. */
const manifest = Type.Unsafe<Manifest>(anyObject)

/** An image version. */
export const imageAnswer = answers<ImageView>()(
  Type.Object({
    ref: Type.String(),
    digest: Type.String(),
    manifest,
    createdAt: Type.String(),
    createdBy: Type.String(),
  }),
)

/** Every image version. */
export const imagesAnswer = answers<Page<ImageView, never>>()(
  Type.Object({ items: Type.Array(imageAnswer), next: Type.Null() }),
)

/** An image version as published. */
export const publishedAnswer = answers<PublishedImage>()(
  Type.Object({ ref: Type.String(), digest: Type.String(), created: Type.Boolean() }),
)

const profileFields = {
  name: Type.String(),
  revision: Type.Integer(),
  profile: anyObject,
  createdAt: Type.String(),
  updatedAt: Type.String(),
}

/** A profile. */
export const profileAnswer = answers<ProfileView>()(Type.Object(profileFields))

/** Every profile. */
export const profilesAnswer = answers<Page<ProfileView, never>>()(
  Type.Object({ items: Type.Array(profileAnswer), next: Type.Null() }),
)

/** A profile as applied. */
export const appliedProfileAnswer = answers<AppliedProfile>()(
  Type.Object({ ...profileFields, warnings: Type.Array(Type.String()) }),
)
