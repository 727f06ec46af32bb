import type { BootContext } from '../boot/context.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import { formatImageRef, type Manifest, manifestDigest, parseManifest } from '../domain/image.ts'
import { reservedArguments } from '../domain/kernel-args.ts'
import { PawlError } from '../errors.ts'
import type { ArtifactStore } from '../images/artifacts.ts'
import { checkPublishable } from '../images/publish.ts'
import type { Queries } from '../storage/database.ts'
import { findImage } from '../storage/fleet.ts'
import type { ImageTestRow } from '../storage/image-tables.ts'
import { findLastTest, listLastTests } from '../storage/image-tests.ts'
import { findPruned, insertImage } from '../storage/images.ts'
import { pageOfImages } from '../storage/pages.ts'
import { listSignatures, listSigners, type StoredSignature } from '../storage/publishers.ts'
import type { ImageRow } from '../storage/tables.ts'
import { type By, type Change, change } from './change.ts'
import { isStage2Image } from './channel-rules.ts'
import { type Listed, listed } from './listed.ts'
import { checkScope } from './operators.ts'
import { type Approval, type ProposalView, propose } from './proposals.ts'
import { refuseRemoved } from './prune.ts'
import {
  readSignature,
  type SignatureView,
  type SignerView,
  showSignatures,
  signerOf,
  storeSignature,
} from './signatures.ts'
import { trustWarnings } from './trust-warnings.ts'

/** An image version as operators see it. */
export interface ImageView {
  /** `name@version`. */
  readonly ref: string
  /** SHA-256 of the manifest's canonical JSON: the image's identity. */
  readonly digest: string
  readonly manifest: Manifest
  readonly createdAt: string
  readonly createdBy: string
  readonly signatures: readonly SignerView[]
  /** Its last test boot, if it had one. */
  readonly test: { readonly passed: boolean; readonly by: string; readonly at: string } | null
}

/** An image version as published; `created` is false where the same bytes were there before. */
export interface PublishedImage {
  readonly ref: string
  readonly digest: string
  readonly created: boolean
  /** Whose signature came with it; null: it came unsigned. */
  readonly signedBy: string | null
  readonly warnings: readonly string[]
  /** The publication, where it waits for a second person: nothing is visible until then. */
  readonly proposal: ProposalView | null
}

/** An image as it is sent to be published. */
export interface Publication {
  readonly manifest: unknown
  readonly signature?: unknown
}

/** By what an image can be checked anew, without believing the server. */
export interface ImageEvidence {
  readonly ref: string
  /** The manifest as it is stored and signed: canonical JSON. */
  readonly manifest: string
  readonly signatures: readonly SignatureView[]
}

/** An image whose every byte was read back and has its digest. */
export interface RereadImage {
  readonly ref: string
  readonly digest: string
  readonly bytes: number
}

/**
 * Makes an image version visible, once all its artifacts are stored and read back right, with its signature where it has
 * one: a bad signature publishes nothing. Throws `exists` where the version is published with other bytes: a version never
 * changes. The same bytes again may bring a signature that was not there.
 */
export async function publishImage(
  context: BootContext,
  by: By,
  store: ArtifactStore,
  publication: Publication,
): Promise<PublishedImage> {
  const manifest = parseManifest(publication.manifest)
  checkScope(by, manifest.name)
  checkReserved(by, manifest)
  const { db } = context.storage
  const published = { ref: formatImageRef(manifest), digest: manifestDigest(manifest) }
  const known = await findImage(db, manifest.name, manifest.version)
  if (known !== undefined) refuseOther(known, published)
  const { signature } = publication
  const signed =
    signature === undefined ? undefined : await readSignature(db, signature, manifest, context.clock())
  if (known === undefined) await checkPublishable(manifest, store) // reads every byte: outside the transaction
  return change(context, by, async (change) => {
    const answer = { ...published, signedBy: signed?.publisher.name ?? null, warnings: [], proposal: null }
    if (known === undefined && by.role !== 'admin' && (await isStage2Image(change.tx, manifest.name)))
      return { ...answer, created: false, proposal: await proposeImage(change, manifest, signature) }
    const created = known === undefined && (await insertOnce(change, manifest, published))
    if (signed !== undefined) await storeSignature(change, manifest, signed)
    return { ...answer, created, warnings: await trustWarnings(change.tx, manifest) }
  })
}

/** An image that waits for a second person. Its artifacts are stored; nothing boots it. */
export interface ProposedImage {
  readonly digest: string
  readonly manifest: Manifest
  readonly signature?: unknown
}

function proposeImage(change: Change, manifest: Manifest, signature: unknown): Promise<ProposalView> {
  const document = {
    digest: manifestDigest(manifest),
    manifest,
    ...(signature === undefined ? {} : { signature }),
  }
  return propose(change, { kind: 'image', subject: formatImageRef(manifest), document, why: null })
}

/** Publishes a proposed image, in the transaction that approves it. Its bytes have been read back before. */
export async function publishProposed(
  change: Change,
  { manifest, signature }: ProposedImage,
  { proposedBy }: Approval,
): Promise<void> {
  checkScope(change.by, manifest.name)
  const published = { ref: formatImageRef(manifest), digest: manifestDigest(manifest) }
  await insertOnce(change, manifest, published, proposedBy)
  if (signature === undefined) return
  await storeSignature(change, manifest, await readSignature(change.tx, signature, manifest, change.now))
}

/** Adds the image where nobody published this version while we were reading. */
async function insertOnce(
  change: Change,
  manifest: Manifest,
  published: { readonly ref: string; readonly digest: string },
  publisher = change.by.actor,
): Promise<boolean> {
  const { tx, now, note } = change
  const pruned = await findPruned(tx, manifest.name, manifest.version)
  if (pruned !== undefined) refuseOther(pruned, published)
  await refuseRemoved(
    change,
    manifest.artifacts.map(({ digest }) => digest),
  )
  const added = await insertImage(tx, {
    name: manifest.name,
    version: manifest.version,
    manifest: canonicalJson(manifest),
    digest: published.digest,
    created_at: now.toISOString(),
    created_by: publisher,
  })
  if (added) {
    await note('image-published', null, { image: published.ref, digest: published.digest })
    return true
  }
  const first = await findImage(tx, manifest.name, manifest.version)
  if (first !== undefined) refuseOther(first, published)
  return false
}

/** Shows an image version; throws `not-found`. */
export async function showImage(db: Queries, name: string, version: string): Promise<ImageView> {
  return viewOf(
    await needImage(db, name, version),
    await listSignatures(db, name, version),
    await findLastTest(db, name, version),
  )
}

/** Shows image versions, by name, the newest of each first; of one name where one is given. */
export async function listImages(
  db: Queries,
  page: Parameters<typeof pageOfImages>[1],
): Promise<Listed<ImageView>> {
  const found = await pageOfImages(db, page)
  const names = [...new Set(found.rows.map(({ name }) => name))]
  const signers = Map.groupBy(await listSigners(db, names), ({ name, version }) => `${name}@${version}`)
  const tests = await listLastTests(db, names)
  return listed(found, (row) => {
    const ref = `${row.name}@${row.version}`
    return viewOf(row, signers.get(ref) ?? [], tests.get(ref))
  })
}

/** Shows by what an image can be checked anew; throws `not-found`. */
export async function showEvidence(db: Queries, name: string, version: string): Promise<ImageEvidence> {
  const { manifest } = await needImage(db, name, version)
  return { ref: `${name}@${version}`, manifest, signatures: await showSignatures(db, name, version) }
}

/** Reads every byte of an image back from the store. Throws `digest-mismatch` naming what is not as it was published. */
export async function rereadImage(
  db: Queries,
  store: ArtifactStore,
  name: string,
  version: string,
): Promise<RereadImage> {
  const row = await needImage(db, name, version)
  const manifest = parseManifest(JSON.parse(row.manifest))
  const digest = manifestDigest(manifest)
  if (digest !== row.digest) {
    throw new PawlError('digest-mismatch', `the manifest of ${name}@${version} has digest ${digest}`, {
      hint: `it was published with ${row.digest}: someone changed the database`,
    })
  }
  await checkPublishable(manifest, store)
  const bytes = manifest.artifacts.reduce((total, { size }) => total + size, 0)
  return { ref: formatImageRef(manifest), digest, bytes }
}

async function needImage(db: Queries, name: string, version: string): Promise<ImageRow> {
  const row = await findImage(db, name, version)
  if (row !== undefined) return row
  throw new PawlError('not-found', `image "${name}@${version}" is not published`, {
    hint: 'list them with pawl image list',
  })
}

function refuseOther(
  row: Pick<ImageRow, 'digest'>,
  published: { readonly ref: string; readonly digest: string },
): void {
  if (row.digest === published.digest) return
  throw new PawlError('exists', `image ${published.ref} is published with digest ${row.digest}`, {
    hint: 'a version never changes: publish this one under another version',
  })
}

function viewOf(
  row: ImageRow,
  signatures: readonly Omit<StoredSignature, 'document'>[],
  test: Omit<ImageTestRow, 'detail'> | undefined,
): ImageView {
  const manifest = parseManifest(JSON.parse(row.manifest))
  return {
    ref: formatImageRef(manifest),
    digest: row.digest,
    manifest,
    createdAt: row.created_at,
    createdBy: row.created_by,
    signatures: signatures.map(signerOf),
    test: test === undefined ? null : { passed: test.passed === 1, by: test.tested_by, at: test.tested_at },
  }
}

function checkReserved(by: By, manifest: Manifest): void {
  const [reserved] = reservedArguments(manifest.kernelArguments)
  if (reserved === undefined || by.role === 'admin') return
  throw new PawlError('forbidden', `kernel argument "${reserved}" is reserved: it needs the role admin`)
}
