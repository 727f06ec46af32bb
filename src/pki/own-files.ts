/**
 * Certificates that are not ours: the operator's own, or those that an ACME client (certbot, acme.sh, step, lego) renews.
 * Read whole or not at all: a key beside the certificate of another moment is what a renewal looks like from outside.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { PawlError } from '../errors.ts'
import { findPublicFile, findSharedSecretFile } from './key-file.ts'

/** A certificate's file and its key's. */
export interface OwnPair {
  readonly certFile: string
  readonly keyFile: string
}

/** Where certificates of the operator's own are. */
export interface OwnFiles {
  /** One of RSA, one of ECDSA, or either. */
  readonly pairs: readonly OwnPair[]
  /** The roots that lead to them. */
  readonly caFile: string
}

/** A certificate with what is sent with it. */
export interface OwnCertificate {
  readonly certFile: string
  /** PEM. */
  readonly key: string
  readonly leaf: X509Certificate
  /** The leaf, the CAs over it in order, and the root. */
  readonly chain: readonly X509Certificate[]
  /** Whether the root was in the file, or is sent from the file of roots. */
  readonly rootInFile: boolean
  /** Certificates of the file that are on no way to the root: they are not sent. */
  readonly unused: number
}

/** All of them, and what must be trusted for them. */
export interface OwnCertificates {
  readonly certificates: readonly OwnCertificate[]
  /** PEM. */
  readonly roots: string
}

const pemBlock =
  /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END (?:X509 |TRUSTED )?CERTIFICATE-----/g
/** No path is longer; more in a file is somebody's whole list of CAs. */
const maxInFile = 20

/** The texts as they are now, for telling whether they changed. A file that is not there is a text of its own. */
export function textsOf({ pairs, caFile }: OwnFiles): string {
  const texts = pairs.flatMap(({ certFile, keyFile }) => [
    findPublicFile(certFile),
    findSharedSecretFile(keyFile),
  ])
  return JSON.stringify([...texts, findPublicFile(caFile)])
}

/** Reads them; throws `not-found`, `key-unreadable` and `certificate-invalid`, each naming the file. */
export function readOwn({ pairs, caFile }: OwnFiles): OwnCertificates {
  const roots = readCertificates(caFile)
  const certificates = pairs.map((pair) => readPair(pair, roots, caFile))
  const kinds = certificates.map(({ leaf }) => leaf.publicKey.asymmetricKeyType)
  const [first, second] = pairs
  if (kinds.length === 2 && kinds[0] === kinds[1])
    throw invalid(
      `${first?.certFile} and ${second?.certFile} both have a key of the kind ${kinds[0]}`,
      'one must be RSA and one ECDSA: a listener has one of each kind',
    )
  return { certificates, roots: roots.map(String).join('') }
}

function readPair(
  { certFile, keyFile }: OwnPair,
  roots: readonly X509Certificate[],
  caFile: string,
): OwnCertificate {
  const given = readCertificates(certFile)
  const key = readKey(keyFile)
  const leaf = given[0] as X509Certificate // readCertificates gives at least one
  const fitting = given.findIndex((one) => one.checkPrivateKey(createPrivateKey(key)))
  if (fitting < 0)
    throw invalid(`${keyFile} is not the key of ${certFile}`, 'give both files of the same renewal')
  if (fitting > 0)
    throw invalid(
      `the leaf is certificate ${fitting + 1} in ${certFile}`,
      'the leaf comes first, then the CA that issued it, and so on',
    )
  const path = pathOf(leaf, given, roots)
  const top = path.at(-1) as X509Certificate // it begins with the leaf
  const root = roots.find((one) => isIssuedBy(top, one))
  if (root === undefined)
    throw invalid(
      `${certFile} does not lead to a root of ${caFile}: nothing there issued ${nameOf(top)}`,
      `append the certificate of ${nameOf(top, 'issuer')} to ${certFile} (with certbot: fullchain.pem, not cert.pem), or to ${caFile} if it is the root`,
    )
  const chain = same(top, root) ? path : [...path, root]
  return {
    certFile,
    key,
    leaf,
    chain,
    rootInFile: given.some((one) => same(one, root)),
    unused: given.filter((one) => !chain.some((used) => same(one, used))).length,
  }
}

/** From the leaf up, as far as the file goes, and no further than to what a root issued. */
function pathOf(
  leaf: X509Certificate,
  given: readonly X509Certificate[],
  roots: readonly X509Certificate[],
): X509Certificate[] {
  const path = [leaf]
  for (let top = leaf; !roots.some((root) => isIssuedBy(top, root)); ) {
    const issuer = given.find((one) => !path.some((known) => same(known, one)) && isIssuedBy(top, one))
    if (issuer === undefined) break
    path.push(issuer)
    top = issuer
  }
  return path
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  try {
    return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
  } catch {
    return false // a key of another kind than the signature
  }
}

function same(one: X509Certificate, other: X509Certificate): boolean {
  return one.fingerprint256 === other.fingerprint256
}

function readCertificates(file: string): X509Certificate[] {
  const text = findPublicFile(file)
  if (text === undefined)
    throw new PawlError('not-found', `there is no ${file}`, { hint: 'check the setting' })
  const blocks = text.match(pemBlock) ?? []
  if (blocks.length === 0) throw invalid(`${file} holds no certificate (PEM)`, 'DER must be turned into PEM')
  if (blocks.length > maxInFile)
    throw invalid(`${file} holds ${blocks.length} certificates, over the limit of ${maxInFile}`)
  return blocks.map((block, at) => {
    try {
      const certificate = new X509Certificate(block)
      certificate.publicKey // read only when it is asked for: what it throws is told here
      return certificate
    } catch (cause) {
      throw invalid(`certificate ${at + 1} of ${file} cannot be read`, undefined, cause)
    }
  })
}

function readKey(file: string): string {
  const text = findSharedSecretFile(file)
  if (text === undefined)
    throw new PawlError('not-found', `there is no ${file}`, { hint: 'check the setting' })
  try {
    createPrivateKey(text)
    return text
  } catch (cause) {
    throw new PawlError('key-unreadable', `${file} holds no private key that can be read`, {
      hint: /ENCRYPTED/.test(text) ? 'it is encrypted: a server has nobody to ask' : 'it must be PEM, whole',
      cause,
    })
  }
}

/** A certificate's subject or issuer, in quotes. */
export function nameOf(certificate: X509Certificate, whose: 'subject' | 'issuer' = 'subject'): string {
  const name = certificate[whose] || certificate.subjectAltName || 'no name'
  return JSON.stringify(name.replaceAll('\n', ', ').slice(0, 120))
}

function invalid(message: string, hint?: string, cause?: unknown): PawlError {
  return new PawlError('certificate-invalid', message, {
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined ? {} : { cause }),
  })
}
