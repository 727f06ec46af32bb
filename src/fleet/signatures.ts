import type { BootContext } from '../boot/context.ts'
import { formatImageRef, type ImageRef, type Manifest, parseManifest } from '../domain/image.ts'
import { checkSignature, type ImageSignature, parseSignature } from '../domain/signature.ts'
import { PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import { findImage } from '../storage/fleet.ts'
import type { PublisherRow } from '../storage/publisher-tables.ts'
import {
  findPublisherByFingerprint,
  insertSignature,
  listSignatures as listRows,
  type StoredSignature,
} from '../storage/publishers.ts'
import { type By, type Change, change } from './change.ts'
import { checkScope } from './operators.ts'

/** Who signed an image, and when the server took the signature. */
export interface SignerView {
  readonly publisher: string
  readonly fingerprint: string
  readonly signedAt: string
  readonly signedBy: string
  /** Since when its publisher is trusted no more; null while it is. */
  readonly revokedAt: string | null
}

/** A signature with all that is needed to check it anew. */
export interface SignatureView extends SignerView {
  readonly signature: ImageSignature
}

/** An image as signed; `added` is false where this publisher had signed it before. */
export interface SignedImage {
  readonly ref: string
  readonly publisher: string
  readonly added: boolean
}

/** A signature that was checked, and whose it is. */
export interface CheckedSignature {
  readonly publisher: PublisherRow
  readonly signature: ImageSignature
}

/**
 * Reads and checks a signature of an image: every part of it, and that a publisher who is registered and not revoked made
 * it. Throws `invalid` and `signature-invalid`.
 */
export async function readSignature(
  db: Queries,
  document: unknown,
  manifest: Manifest,
  now: Date,
): Promise<CheckedSignature> {
  const signature = parseSignature(document)
  const { fingerprint, leaf } = checkSignature(signature, manifest, now)
  const publisher = await findPublisherByFingerprint(db, fingerprint)
  if (publisher === undefined) {
    throw new PawlError('signature-invalid', `no publisher is registered with certificate ${fingerprint}`, {
      hint: `an admin lets ${JSON.stringify(leaf.subject)} sign with pawl publisher add NAME --cert FILE`,
    })
  }
  refuseRevoked(publisher)
  return { publisher, signature }
}

/** Stores a checked signature in the transaction that needs it; says whether it is new. */
export async function storeSignature(
  { tx, now, by, note }: Change,
  ref: ImageRef,
  { publisher, signature }: CheckedSignature,
): Promise<boolean> {
  const current = await findPublisherByFingerprint(tx, publisher.fingerprint)
  if (current !== undefined) refuseRevoked(current) // it may have been while the signature was checked
  const added = await insertSignature(tx, {
    name: ref.name,
    version: ref.version,
    publisher: publisher.name,
    document: JSON.stringify(signature),
    signed_at: now.toISOString(),
    signed_by: by.actor,
  })
  const { name, fingerprint } = publisher
  if (added) await note('image-signed', null, { image: formatImageRef(ref), publisher: name, fingerprint })
  return added
}

/** Adds a publisher's signature to an image that is published. Throws `not-found` and what `readSignature` throws. */
export async function signImage(
  context: BootContext,
  by: By,
  ref: ImageRef,
  document: unknown,
): Promise<SignedImage> {
  checkScope(by, ref.name)
  const row = await findImage(context.storage.db, ref.name, ref.version)
  if (row === undefined) {
    throw new PawlError('not-found', `image "${formatImageRef(ref)}" is not published`, {
      hint: 'list them with pawl image list',
    })
  }
  const manifest = parseManifest(JSON.parse(row.manifest))
  const checked = await readSignature(context.storage.db, document, manifest, context.clock())
  return change(context, by, async (change) => {
    const added = await storeSignature(change, ref, checked)
    return { ref: formatImageRef(ref), publisher: checked.publisher.name, added }
  })
}

/** An image's signatures whole, the oldest first; those of revoked publishers too. */
export async function showSignatures(db: Queries, name: string, version: string): Promise<SignatureView[]> {
  return (await listRows(db, name, version)).map((row) => ({
    ...signerOf(row),
    signature: parseSignature(JSON.parse(row.document)),
  }))
}

/** A stored signature as operators see it in lists. */
export function signerOf(row: Omit<StoredSignature, 'document'>): SignerView {
  return {
    publisher: row.publisher,
    fingerprint: row.fingerprint,
    signedAt: row.signed_at,
    signedBy: row.signed_by,
    revokedAt: row.revoked_at,
  }
}

function refuseRevoked({ name, revoked_at }: PublisherRow): void {
  if (revoked_at === null) return
  throw new PawlError('signature-invalid', `publisher "${name}" was revoked at ${revoked_at}`, {
    hint: 'sign with the key of another publisher',
  })
}
