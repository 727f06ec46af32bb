import { X509Certificate } from 'node:crypto'
import { parseImageRef } from '../domain/image.ts'
import { Refusal } from '../domain/refusal.ts'
import { cmsOf, type ImageSignature, parseSignature } from '../domain/signature.ts'
import type { Queries } from '../storage/database.ts'
import {
  findSignature,
  findSignedImage,
  type SignedImage,
  type WhichSignature,
} from '../storage/publishers.ts'
import type { BootContext } from './context.ts'
import { type DownloadRequest, openDownload } from './download.ts'
import type { PinnedImage } from './pin.ts'
import { recordRefusal } from './work.ts'

/** What an agent checks by its own keys before it believes anything else about an image. */
export interface SignedManifest {
  /** The manifest, byte for byte as it is signed. */
  readonly manifest: string
  /** Detached CMS over those bytes, DER, in base64. */
  readonly signatures: readonly string[]
}

/** The manifest of a pinned image, with the signatures that made it good at stage 1, but for those revoked since. */
export async function signedManifest(db: Queries, node: string, image: PinnedImage): Promise<SignedManifest> {
  const row = await findSigned(db, image)
  if (row === undefined) throw new Refusal('image-missing', { node, detail: { image: image.ref } })
  const signatures = await signaturesOf(db, image, row)
  const cms = signatures.flatMap((signature) => cmsOf(signature, 'manifest') ?? [])
  return { manifest: row.manifest, signatures: cms.map((one) => one.toString('base64')) }
}

/**
 * Opens the signature of an artifact, as `imgverify` fetches it, by the capability that opens the artifact. Throws a
 * Refusal. Where several publishers signed it, the earliest of them is the one whose certificate leads to the root that the
 * client knows: an iPXE that knows no other takes no other's. Where none does, it is the earliest.
 */
export async function openSignature(context: BootContext, request: DownloadRequest): Promise<Buffer> {
  const { artifact, image, session, root } = await openDownload(context, request)
  const { db } = context.storage
  const row = await findSigned(db, image)
  const found = (row === undefined ? [] : await signaturesOf(db, image, row)).flatMap((signature) => {
    const cms = cmsOf(signature, artifact.role)
    return cms === undefined ? [] : [{ cms, certificates: signature.certificates }]
  })
  const chosen = found.find(({ certificates }) => certificates.some((one) => isRoot(one, root))) ?? found[0]
  if (chosen !== undefined) return chosen.cms
  const refusal = new Refusal('image-unsigned', { session, detail: { image: image.ref } })
  await recordRefusal(context, request, refusal)
  throw refusal
}

function findSigned(db: Queries, image: PinnedImage): Promise<SignedImage | undefined> {
  const { name, version } = parseImageRef(image.ref)
  return findSignedImage(db, name, version)
}

/**
 * Signatures that were read, by what they are of: some 15 KB each, of which every redemption of stage 2 hands out the same part. A
 * signature that is stored is never changed. One that took its place, behind a prune, is told by the manifest's digest, the
 * publisher's certificate and when it was stored. Who is revoked is asked each time.
 */
const known = new Map<string, ImageSignature>()
const mostKnown = 200

/** The signatures that made an image good at stage 1, but for those revoked since; the oldest first. */
async function signaturesOf(db: Queries, image: PinnedImage, row: SignedImage): Promise<ImageSignature[]> {
  const { name, version, digest } = row
  const found: ImageSignature[] = []
  for (const { publisher, fingerprint, revoked_at, signed_at } of row.signers) {
    if (revoked_at !== null || image.signedBy?.includes(publisher) !== true) continue
    const key = `${digest} ${fingerprint} ${signed_at}`
    const signature = known.get(key) ?? (await read(db, { name, version, publisher, signed_at }, key))
    if (signature !== undefined) found.push(signature)
  }
  return found
}

/** Undefined where it was removed this moment. */
async function read(db: Queries, of: WhichSignature, key: string): Promise<ImageSignature | undefined> {
  const row = await findSignature(db, of)
  if (row === undefined) return undefined
  const signature = parseSignature(JSON.parse(row.document))
  if (known.size >= mostKnown) known.clear()
  known.set(key, signature)
  return signature
}

function isRoot(pem: string, root: string | undefined): boolean {
  return (
    root !== undefined && new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase() === root
  )
}
