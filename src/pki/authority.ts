/**
 * The CA of one installation: a root that everyone trusts, and an issuing CA under it that makes the listeners'
 * certificates.
 *
 *     DIR/ca.crt            the root certificate: what machines, browsers and the CLI trust
 *     DIR/pki/root.key      needed only to make an issuing certificate: may be moved offline
 *     DIR/pki/issuing.key   used by the running server
 *     DIR/pki/issuing.crt
 *
 * A key is written before its certificate, and neither is ever overwritten: making the CA can be cut off anywhere and
 * goes on where it was. What would give machines another root than the one they know is refused.
 *
 * While the root is rotated there is a second CA in `DIR/pki/next`, with the same files: see `rotation.ts`.
 */
import { X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import type { PublisherName } from '../domain/publisher.ts'
import { PawlError } from '../errors.ts'
import { createFile, findPublicFile, readSecretFile } from './key-file.ts'
import { authorityFiles, cutOverFile, type Generation } from './places.ts'
import type { CertificateKind } from './profiles.ts'
import { generateKey, keyFits, keyLabel, makeCertificate } from './x509.ts'

export { authorityFiles } from './places.ts'

/** A listener's certificate to be issued. */
export interface LeafRequest {
  readonly kind: Extract<CertificateKind, 'boot-server' | 'boot-server-ecdsa' | 'operator-server'>
  readonly names: readonly string[]
  /** The private key it is for, PEM. */
  readonly key: string
  readonly now: Date
}

/** The CA, ready to issue. */
export interface Authority {
  /** `DIR/pki`. */
  readonly folder: string
  /** The root to trust, PEM. */
  readonly rootCertificate: string
  readonly issuingCertificate: string
  /** No certificate issued here lasts longer. */
  readonly issuingNotAfter: Date
  /** Whether the root's key is still in the data folder; `pawl doctor` advises to move it. */
  rootKeyIsHere(): boolean
  /** Makes a certificate, PEM. Throws `certificate-invalid` outside the issuing certificate's own lifetime. */
  issue(request: LeafRequest): Promise<string>
  /**
   * Makes a code-signing certificate for a publisher's key (PEM, private or public), and returns it with those it leads to,
   * up to the root: an iPXE that knows only the root's fingerprint needs the root too.
   */
  issueCodeSigning(request: { publisher: PublisherName; key: string; now: Date }): Promise<string>
}

/** Makes what is missing of a CA in `dataDir`, whose folder must exist; returns the paths of what it made. */
export async function createAuthority(
  dataDir: string,
  now: Date,
  generation: Generation = 'current',
): Promise<string[]> {
  const files = authorityFiles(dataDir, generation)
  refuseLosses(files)
  const created: string[] = []
  const ensure = async (file: string, make: () => string | Promise<string>, mode = 0o600) => {
    if (!existsSync(file) && createFile(file, await make(), mode)) created.push(file)
  }
  const rootKey = () => needKey(files.rootKey, 'bring root.key back for as long as pawl init runs')
  const issuingKey = () => needKey(files.issuingKey, 'restore it from a backup')
  if (!existsSync(files.rootCertificate)) {
    await ensure(files.rootKey, generateKey)
    await ensure(files.rootCertificate, () => selfSigned(rootKey(), now), 0o644)
  }
  await ensure(files.issuingKey, generateKey)
  const underRoot = () => {
    const issuer = { certificate: needCertificate(files.rootCertificate), key: rootKey() }
    const commonName = `Pawl issuing ${keyLabel(issuingKey())}`
    return makeCertificate({ kind: 'issuing', commonName, names: [], key: issuingKey(), now, issuer })
  }
  await ensure(files.issuingCertificate, underRoot, 0o644)
  return created
}

/**
 * Loads a CA of `dataDir`. Throws `not-found` before `pawl init`, `key-unreadable` and `certificate-invalid`, and `conflict`
 * where one is half way into the place of the other.
 */
export function openAuthority(dataDir: string, generation: Generation = 'current'): Authority {
  const files = authorityFiles(dataDir, generation)
  refuseHalfWay(dataDir)
  if (!existsSync(files.rootCertificate) && !existsSync(files.issuingCertificate)) {
    throw new PawlError('not-found', `${dataDir} holds no Pawl data: there is no ca.crt`, {
      hint: `run pawl init --data ${dataDir}`,
    })
  }
  const rootCertificate = needCertificate(files.rootCertificate)
  const issuingCertificate = needCertificate(files.issuingCertificate)
  const key = needKey(files.issuingKey, 'restore it from a backup')
  const issuing = new X509Certificate(issuingCertificate)
  const root = new X509Certificate(rootCertificate)
  if (!keyFits(issuing, key)) throw misfit(files.issuingKey, files.issuingCertificate)
  if (!issuing.checkIssued(root) || !issuing.verify(root.publicKey)) {
    throw misfit(files.issuingCertificate, files.rootCertificate)
  }
  const issuer = { certificate: issuingCertificate, key }
  return {
    folder: files.folder,
    rootCertificate,
    issuingCertificate,
    issuingNotAfter: issuing.validToDate,
    rootKeyIsHere: () => existsSync(files.rootKey),
    async issue(request) {
      checkLifetime(issuing, request.now)
      return makeCertificate({ ...request, commonName: request.names[0] ?? 'Pawl', issuer })
    },
    async issueCodeSigning({ publisher, key, now }) {
      checkLifetime(issuing, now)
      // No host has a space in its name: iPXE would take a certificate with a host's name for that host's.
      const commonName = `Pawl publisher ${publisher}`.slice(0, 64)
      const leaf = await makeCertificate({ kind: 'code-signing', commonName, names: [], key, now, issuer })
      return leaf + issuingCertificate + rootCertificate
    },
  }
}

function selfSigned(key: string, now: Date): Promise<string> {
  return makeCertificate({ kind: 'root', commonName: `Pawl root ${keyLabel(key)}`, names: [], key, now })
}

/** What was there once, by what is left of it, must come back from a backup: a new one would not fit the rest. */
function refuseLosses(files: ReturnType<typeof authorityFiles>): void {
  const lost = [
    [files.rootCertificate, files.issuingCertificate],
    // The issuing key is made after the root: with the same root key, a new root would still have another fingerprint.
    [files.rootCertificate, files.issuingKey],
    [files.issuingKey, files.issuingCertificate],
  ].find(([needed, proof]) => !existsSync(String(needed)) && existsSync(String(proof)))
  if (lost === undefined) return
  throw new PawlError('certificate-invalid', `${lost[0]} is missing, but ${lost[1]} was made with it`, {
    hint: 'restore it from a backup; a new one would not be trusted by machines that know this CA',
  })
}

function refuseHalfWay(dataDir: string): void {
  if (!existsSync(cutOverFile(dataDir))) return
  throw new PawlError('conflict', `a cut-over of the root in ${dataDir} was cut off`, {
    hint: 'start the server, or run pawl root cut-over again: either finishes it',
  })
}

function needKey(file: string, hint: string): string {
  const text = readSecretFile(file, hint)
  if (!/^-----BEGIN PRIVATE KEY-----\n[\s\S]+-----END PRIVATE KEY-----\n?$/.test(text)) {
    throw new PawlError('key-unreadable', `${file} holds no private key (PEM, PKCS#8)`, {
      hint: 'restore it from a backup',
    })
  }
  return text
}

function needCertificate(file: string): string {
  const text = findPublicFile(file)
  if (text === undefined) {
    throw new PawlError('certificate-invalid', `${file} is not there`, { hint: 'restore it from a backup' })
  }
  try {
    new X509Certificate(text)
    return text
  } catch (cause) {
    throw new PawlError('certificate-invalid', `${file} holds no certificate (PEM)`, {
      hint: 'restore it from a backup',
      cause,
    })
  }
}

function checkLifetime(issuing: X509Certificate, now: Date): void {
  if (now >= issuing.validFromDate && now < issuing.validToDate) return
  const [from, to] = [issuing.validFromDate.toISOString(), issuing.validToDate.toISOString()]
  throw new PawlError(
    'certificate-invalid',
    `the issuing certificate is good from ${from} to ${to}, not now`,
    {
      hint: `check this machine's clock (${now.toISOString()})`,
    },
  )
}

function misfit(file: string, other: string): PawlError {
  return new PawlError('certificate-invalid', `${file} does not belong to ${other}`, {
    hint: 'restore both from the same backup',
  })
}
