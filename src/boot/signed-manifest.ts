import { X509Certificate } from 'node:crypto'
import { parseImageRef } from '../domain/image.ts'
import { Refusal } from '../domain/refusal.ts'
import { cmsOf, parseSignature, type SignedPart } from '../domain/signature.ts'
import type { Queries } from '../storage/database.ts'
import { findImage } from '../storage/fleet.ts'
import { listSignatures } from '../storage/publishers.ts'
import type { BootContext } from './context.ts'
import { type DownloadRequest, openDownload } from './download.ts'
import type { PinnedImage } from './pin.ts'
import { readingOnce } from './reading-once.ts'
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
  const { name, version } = parseImageRef(image.ref)
  const row = await findImage(db, name, version)
  if (row === undefined) throw new Refusal('image-missing', { node, detail: { image: image.ref } })
  const signatures = await signaturesOf(db, image, 'manifest')
  return { manifest: row.manifest, signatures: signatures.map(({ cms }) => cms.toString('base64')) }
}

/**
 * Opens the signature of an artifact, as `imgverify` fetches it, by the capability that opens the artifact. Throws a
 * Refusal. Where several publishers signed it, the earliest of them is the one whose certificate leads to the root that the
 * client knows: an iPXE that knows no other takes no other's. Where none does, it is the earliest.
 */
export async function openSignature(context: BootContext, request: DownloadRequest): Promise<Buffer> {
  const { artifact, image, session, root } = await openDownload(context, request)
  const found = await signaturesOf(context.storage.db, image, artifact.role)
  const chosen = found.find(({ certificates }) => certificates.some((one) => isRoot(one, root))) ?? found[0]
  if (chosen !== undefined) return chosen.cms
  const refusal = new Refusal('image-unsigned', { session, detail: { image: image.ref } })
  await recordRefusal(context, request, refusal)
  throw refusal
}

/** A signature, with the certificates that lead from it to a root, PEM. */
interface FoundSignature {
  readonly cms: Buffer
  readonly certificates: readonly string[]
}

/** Reads and checks a stored signature. It has some 15 KB, of which each redemption of stage 2 hands out the same part. */
const readSignature = readingOnce(200, (text) => parseSignature(JSON.parse(text)))

async function signaturesOf(db: Queries, image: PinnedImage, part: SignedPart): Promise<FoundSignature[]> {
  const { name, version } = parseImageRef(image.ref)
  const rows = await listSignatures(db, name, version)
  return rows
    .filter(({ publisher, revoked_at }) => revoked_at === null && image.signedBy?.includes(publisher))
    .flatMap(({ document }) => {
      const signature = readSignature(document)
      const cms = cmsOf(signature, part)
      return cms === undefined ? [] : [{ cms, certificates: signature.certificates }]
    })
}

function isRoot(pem: string, root: string | undefined): boolean {
  return (
    root !== undefined && new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase() === root
  )
}
