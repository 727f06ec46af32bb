import { readFile } from 'node:fs/promises'
import { canonicalJson } from '../domain/canonical-json.ts'
import {
  type Artifact,
  type ArtifactRole,
  artifactOfRole,
  artifactRoles,
  formatImageRef,
  type Manifest,
  manifestDigest,
  maxManifestBytes,
  parseManifest,
} from '../domain/image.ts'
import { type CertificateChain, checkMaySign, parseChain } from '../domain/publisher.ts'
import { checkParts, type ImageSignature, parseSignature } from '../domain/signature.ts'
import { PawlError } from '../errors.ts'
import type { SignatureView } from './answers.ts'
import { readCertificates } from './certificate-file.ts'
import { formatSize, formatTime } from './format.ts'
import { hashFile } from './image-files.ts'

/** One thing that was looked at and is right. */
export interface Checked {
  /** `manifest`, `signature`, `kernel`, … */
  readonly what: string
  readonly found: string
}

/** A manifest as text, read; throws `digest-mismatch` unless it is canonical and of the image that was asked for. */
export function readManifestText(text: string, ref: string): Manifest {
  const manifest = parseManifest(parseJson(text, 'the manifest'))
  if (canonicalJson(manifest) !== text)
    throw new PawlError('digest-mismatch', 'the manifest is not byte for byte the text that is signed', {
      hint: 'it is canonical JSON, without a line break at its end: take it from pawl image export',
    })
  if (formatImageRef(manifest) !== ref)
    throw new PawlError('digest-mismatch', `the manifest is of ${formatImageRef(manifest)}, not of ${ref}`)
  return manifest
}

/** Reads a manifest's file. */
export async function readManifestFile(file: string, ref: string): Promise<Manifest> {
  return readManifestText(await readText(file, maxManifestBytes), ref)
}

/** Reads a signature's file, as `pawl image export` writes it. */
export async function readSignatureFile(file: string): Promise<ImageSignature> {
  return parseSignature(parseJson(await readText(file, 512 * 1024), file))
}

/** The certificates that are trusted: the first of each file. A CA's is refused: the agents do not trust those either. */
export function readTrusted(files: readonly string[]): ReadonlySet<string> {
  return new Set(
    files.map((file) => {
      const { leaf, fingerprint } = parseChain(readCertificates(file))
      if (!leaf.ca) return fingerprint
      throw new PawlError('usage', `the first certificate of ${file} is a CA`, {
        hint: "trust the publisher's own certificate: pawl publisher show NAME --pem prints it first",
      })
    }),
  )
}

/**
 * Checks a signature that was found without a server: all its parts, and that it is by one of the trusted. When it was made is
 * not known, so the certificate's dates do not count, as they do not for the agents. Throws `signature-invalid`.
 */
export function checkOffline(
  signature: ImageSignature,
  manifest: Manifest,
  trusted: ReadonlySet<string>,
  now: Date,
): Checked {
  const chain = parseChain(signature.certificates.join('\n'))
  checkMaySign(chain, chain.leaf.validFromDate)
  checkParts(signature, manifest, chain)
  if (!trusted.has(chain.fingerprint))
    throw new PawlError(
      'signature-invalid',
      `the image is signed by ${subjectOf(chain)}, which is not trusted`,
      {
        hint: `--trust names the file of the certificate with SHA-256 ${chain.fingerprint}`,
      },
    )
  const end = chain.leaf.validToDate
  const expired = end <= now ? `, whose certificate expired at ${formatTime(end.toISOString())}` : ''
  return { what: 'signature', found: `of manifest and artifacts, by ${subjectOf(chain)}${expired}` }
}

/**
 * Checks the signatures that a server holds, each as of when it took it, and that one counts: of a publisher that is not
 * revoked, or of those trusted here. Throws `signature-invalid` for the first that is wrong.
 */
export function checkHeld(
  held: readonly SignatureView[],
  manifest: Manifest,
  trusted: ReadonlySet<string> | undefined,
): Checked[] {
  const counting: Checked[] = []
  for (const { publisher, signature, signedAt, revokedAt } of held) {
    const chain = parseChain(parseSignature(signature).certificates.join('\n'))
    checkMaySign(chain, new Date(signedAt))
    checkParts(signature, manifest, chain)
    const counts = trusted === undefined ? revokedAt === null : trusted.has(chain.fingerprint)
    if (counts)
      counting.push({ what: 'signature', found: `of manifest and artifacts, by publisher "${publisher}"` })
  }
  if (counting.length > 0) return counting
  const by = held.map(({ publisher, revokedAt }) => publisher + (revokedAt === null ? '' : ' (revoked)'))
  throw new PawlError(
    'signature-invalid',
    by.length === 0
      ? `${formatImageRef(manifest)} is not signed`
      : `${formatImageRef(manifest)} is signed by ${by.join(', ')} only`,
    { hint: 'sign it with pawl image sign' },
  )
}

/** Hashes the files of an image; throws `digest-mismatch` for the first that is not the manifest's, `usage` for one that is not given. */
export async function checkFiles(
  manifest: Manifest,
  paths: Readonly<Partial<Record<ArtifactRole, string>>>,
): Promise<Checked[]> {
  const checked: Checked[] = []
  for (const artifact of manifest.artifacts) {
    const path = paths[artifact.role]
    if (path === undefined) throw new PawlError('usage', `give --${artifact.role}: the image has one`)
    checked.push(await checkFile(artifact, path))
  }
  return checked
}

/** Hashes the files that are given; throws `digest-mismatch`, and `usage` for one that the image does not have. */
export async function checkGiven(
  manifest: Manifest,
  paths: Readonly<Record<ArtifactRole, string | undefined>>,
): Promise<void> {
  for (const role of artifactRoles) {
    const path = paths[role]
    if (path === undefined) continue
    const artifact = artifactOfRole(manifest, role)
    if (artifact === undefined) throw new PawlError('usage', `the image has no ${role}: leave --${role} out`)
    await checkFile(artifact, path)
  }
}

async function checkFile({ role, digest, size }: Artifact, path: string): Promise<Checked> {
  const file = await hashFile(role, path, () => {})
  if (file.digest === digest) return { what: role, found: `${digest} (${formatSize(size)})` }
  throw new PawlError('digest-mismatch', `the ${role} ${path} has SHA-256 ${file.digest}, not ${digest}`)
}

/** What is said of a manifest that is right. */
export function checkedManifest(manifest: Manifest): Checked {
  return { what: 'manifest', found: manifestDigest(manifest) }
}

function subjectOf({ leaf }: CertificateChain): string {
  return JSON.stringify((leaf.subject ?? '').replaceAll('\n', ', '))
}

/** Reads a text file; throws `not-found`, `invalid` or `too-large` naming it. */
export async function readText(file: string, maxBytes: number): Promise<string> {
  const bytes = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'ENOENT'
      ? new PawlError('not-found', `there is no ${file}`)
      : new PawlError('invalid', `${file} cannot be read (${error.code})`)
  })
  if (bytes.length > maxBytes)
    throw new PawlError('too-large', `${file} has ${bytes.length} bytes; ${maxBytes} are the limit`)
  return bytes.toString('utf8')
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new PawlError('invalid', `${what} is not JSON`, { cause })
  }
}
