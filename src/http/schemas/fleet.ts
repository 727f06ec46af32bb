import { digestPattern } from '../../domain/digest.ts'
import type { Manifest } from '../../domain/image.ts'
import Type from '../../domain/schema.ts'
import type { ImageSignature } from '../../domain/signature.ts'
import type { ImageEvidence, ImageView, PublishedImage, RereadImage } from '../../fleet/images.ts'
import type { AppliedProfile, ProfileView } from '../../fleet/profiles.ts'
import type { RemovedImage } from '../../fleet/remove-image.ts'
import type { SignatureView, SignedImage, SignerView } from '../../fleet/signatures.ts'
import { answers, anyObject, type Page, pageFields, textOrNull, word } from './answers.ts'
import { proposalAnswer } from './channel.ts'

/** An artifact's path. */
export const artifactPath = Type.Object({ hex: Type.String({ pattern: digestPattern }) })

/** An artifact behind its upload. */
export const artifactAnswer = Type.Object({ digest: Type.String(), size: Type.Integer() })

/** An artifact of which more is to come. */
export const partialArtifactAnswer = Type.Object({ digest: Type.String(), received: Type.Integer() })

/** An image's path. */
export const imagePath = Type.Object({ name: word, version: word })

/** Checked and described by domain/image.ts: a manifest is one document, whole. */
const manifest = Type.Unsafe<Manifest>(anyObject)

const signerFields = {
  publisher: Type.String(),
  fingerprint: Type.String(),
  signedAt: Type.String(),
  signedBy: Type.String(),
  revokedAt: textOrNull,
}
const signer = answers<SignerView>('Signer')(Type.Object(signerFields))

/** An image version. */
export const imageAnswer = answers<ImageView>('Image')(
  Type.Object({
    ref: Type.String(),
    digest: Type.String(),
    manifest,
    createdAt: Type.String(),
    createdBy: Type.String(),
    signatures: Type.Array(signer),
    test: Type.Union([
      Type.Object({ passed: Type.Boolean(), by: Type.String(), at: Type.String() }),
      Type.Null(),
    ]),
  }),
)

/** Which image versions to list. */
export const imageQuery = Type.Object(
  { name: Type.Optional(word), ...pageFields },
  { additionalProperties: false },
)

/** Image versions. */
export const imagesAnswer = answers<Page<ImageView, string>>('Images')(
  Type.Object({ items: Type.Array(imageAnswer), next: textOrNull }),
)

/** An image version as published. */
export const publishedAnswer = answers<PublishedImage>('PublishedImage')(
  Type.Object({
    ref: Type.String(),
    digest: Type.String(),
    created: Type.Boolean(),
    signedBy: textOrNull,
    warnings: Type.Array(Type.String()),
    proposal: Type.Union([proposalAnswer, Type.Null()]),
  }),
)

/** An image to publish: the manifest, and its signature where it is signed. */
export const publication = Type.Object(
  { manifest: Type.Unknown(), signature: Type.Optional(Type.Unknown()) },
  { additionalProperties: false, title: 'Publication' },
)

/** An image version as signed. */
export const signedAnswer = answers<SignedImage>('SignedImage')(
  Type.Object({ ref: Type.String(), publisher: Type.String(), added: Type.Boolean() }),
)

/** Everything by which an image can be checked anew: the manifest, byte for byte as it was signed, and its signatures. */
export const signaturesAnswer = answers<ImageEvidence>('ImageEvidence')(
  Type.Object({
    ref: Type.String(),
    manifest: Type.String(),
    signatures: Type.Array(
      answers<SignatureView>()(
        Type.Object({ ...signerFields, signature: Type.Unsafe<ImageSignature>(anyObject) }),
      ),
    ),
  }),
)

/** An image version that is gone. */
export const removedImageAnswer = answers<RemovedImage>('RemovedImage')(
  Type.Object({ ref: Type.String(), bytes: Type.Integer() }),
)

/** An image whose every byte was read back. */
export const rereadAnswer = answers<RereadImage>('RereadImage')(
  Type.Object({ ref: Type.String(), digest: Type.String(), bytes: Type.Integer() }),
)

const profileFields = {
  name: Type.String(),
  revision: Type.Integer(),
  profile: anyObject,
  createdAt: Type.String(),
  updatedAt: Type.String(),
}

/** A profile. */
export const profileAnswer = answers<ProfileView>('Profile')(Type.Object(profileFields))

/** Every profile. */
export const profilesAnswer = answers<Page<ProfileView, string>>('Profiles')(
  Type.Object({ items: Type.Array(profileAnswer), next: textOrNull }),
)

/** A profile as applied. */
export const appliedProfileAnswer = answers<AppliedProfile>('AppliedProfile')(
  Type.Object({ ...profileFields, warnings: Type.Array(Type.String()) }),
)
