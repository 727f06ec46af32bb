import { createHash, type KeyObject, X509Certificate } from 'node:crypto'
import { PawlError } from '../errors.ts'
import type { Branded } from './brand.ts'
import { type Digest, parseDigest } from './digest.ts'
import { quote } from './node.ts'

/**
 * A publisher is whoever signs images: a name for a code-signing certificate. Its certificates are read with Node's own
 * X.509 parser, which is OpenSSL's: they come from outside.
 */

/** A publisher's name. */
export type PublisherName = Branded<string, 'PublisherName'>

/** The whole rule for a publisher's name, for schemas. */
export const publisherNamePattern = '^[a-z0-9][a-z0-9-]{0,62}$'

/** A leaf certificate and the certificates that lead from it towards a root, each signed by the next. */
export interface CertificateChain {
  readonly leaf: X509Certificate
  /** The leaf first. */
  readonly certificates: readonly X509Certificate[]
  /** The SHA-256 of the leaf's DER: which publisher it is. */
  readonly fingerprint: Digest
}

const maxPemBytes = 32 * 1024
const maxCertificates = 4
const codeSigning = '1.3.6.1.5.5.7.3.3' // RFC 5280 §4.2.1.12
const pemBlock = /-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----/g
/** RSA keys of fewer bits can be broken within the life of an image; more only cost time. */
const keyBits = { min: 2048, max: 8192 }

/** Reads a publisher's name; throws `invalid`. */
export function parsePublisherName(text: string): PublisherName {
  if (new RegExp(publisherNamePattern).test(text)) return text as PublisherName
  throw new PawlError(
    'invalid',
    `${quote(text)} is not a publisher's name: 1 to 63 of a-z, 0-9 and "-", beginning with a letter or digit`,
  )
}

/** Reads one to four certificates (PEM), the leaf first; throws `signature-invalid` where one is not signed by the next. */
export function parseChain(pem: string): CertificateChain {
  if (pem.length > maxPemBytes)
    throw invalid(`${pem.length} bytes of certificates; ${maxPemBytes} are the limit`)
  const blocks = pem.match(pemBlock) ?? []
  if (blocks.length === 0) throw invalid('there is no certificate (PEM)')
  if (blocks.length > maxCertificates)
    throw invalid(`${blocks.length} certificates; ${maxCertificates} are the limit`)
  const certificates = blocks.map(parseCertificate)
  const [leaf] = certificates as [X509Certificate] // at least one, see above
  checkLinks(certificates)
  const fingerprint = parseDigest(createHash('sha256').update(leaf.raw).digest('hex'))
  return { leaf, certificates, fingerprint }
}

/** Writes a chain as PEM, the leaf first; `parseChain` reads it back. */
export function writeChain({ certificates }: CertificateChain): string {
  return certificates.map((certificate) => certificate.toString()).join('')
}

/** Throws `signature-invalid` unless this chain may sign images at a time: RSA, for code signing, no CA, valid. */
export function checkMaySign(chain: CertificateChain, at: Date): void {
  checkKey(chain.leaf)
  checkPurpose(chain.leaf)
  checkIssuer(chain)
  checkValidity(chain.leaf, at)
}

/** When a chain may sign no more. */
export function expiryOf({ leaf }: CertificateChain): Date {
  return leaf.validToDate
}

function parseCertificate(block: string): X509Certificate {
  try {
    return new X509Certificate(block)
  } catch (cause) {
    throw new PawlError('signature-invalid', 'a certificate cannot be read', { cause })
  }
}

function checkLinks(certificates: readonly X509Certificate[]): void {
  for (const [index, certificate] of certificates.slice(0, -1).entries()) {
    const issuer = certificates[index + 1] as X509Certificate // one is left, see the slice
    if (!issuer.ca || !certificate.checkIssued(issuer) || !isSignedBy(certificate, issuer))
      throw invalid(`certificate ${index + 1} (${nameOf(certificate)}) is not issued by the one after it`)
  }
}

function checkKey(leaf: X509Certificate): void {
  const publicKey = publicKeyOf(leaf)
  const { modulusLength = 0, publicExponent = 0n } = publicKey.asymmetricKeyDetails ?? {}
  if (publicKey.asymmetricKeyType !== 'rsa')
    throw invalid(`the key is ${publicKey.asymmetricKeyType}, not RSA, which is what iPXE checks`)
  if (modulusLength < keyBits.min || modulusLength > keyBits.max || modulusLength % 8 !== 0)
    throw invalid(`the key has ${modulusLength} bits; ${keyBits.min} to ${keyBits.max} are allowed`)
  if (publicExponent < 65_537n || publicExponent % 2n === 0n)
    throw invalid(`the key's exponent is ${publicExponent}, below 65537 or even`)
}

/** A certificate's parser leaves the key unread; only who asks for it learns that it is none. */
function publicKeyOf(leaf: X509Certificate): KeyObject {
  try {
    return leaf.publicKey
  } catch (cause) {
    throw new PawlError('signature-invalid', `the key of ${nameOf(leaf)} cannot be read`, { cause })
  }
}

function checkPurpose(leaf: X509Certificate): void {
  const [purpose, ...others] = leaf.keyUsage ?? [] // Node's name for the extended key usage
  const hint = 'make it with extendedKeyUsage=codeSigning and basicConstraints=critical,CA:FALSE'
  if (purpose !== codeSigning || others.length > 0)
    throw invalid(`${nameOf(leaf)} is not for code signing, and for nothing else`, hint)
  // Who has a CA's key can make others' certificates: it has no place in a build.
  if (leaf.ca) throw invalid(`${nameOf(leaf)} is a CA`, hint)
}

/** Leaf and issuer must be there: iPXE looks for the issuer among the certificates of the signature. */
function checkIssuer({ leaf, certificates }: CertificateChain): void {
  if (certificates.length > 1) return
  if (isSignedBy(leaf, leaf)) return
  throw invalid(`the certificate of the issuer of ${nameOf(leaf)} is missing`, 'append it to the file')
}

function checkValidity(leaf: X509Certificate, at: Date): void {
  if (at >= leaf.validFromDate && at < leaf.validToDate) return
  const [from, to] = [leaf.validFromDate.toISOString(), leaf.validToDate.toISOString()]
  throw invalid(
    `${nameOf(leaf)} is good from ${from} to ${to}, not at ${at.toISOString()}`,
    'sign with another certificate: pawl publisher create makes one',
  )
}

function isSignedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  try {
    return certificate.verify(issuer.publicKey)
  } catch {
    return false // a key of another kind than the signature
  }
}

function nameOf({ subject }: X509Certificate): string {
  return quote((subject ?? '').replaceAll('\n', ', ').slice(0, 120))
}

function invalid(message: string, hint?: string): PawlError {
  return new PawlError('signature-invalid', message, hint === undefined ? {} : { hint })
}
