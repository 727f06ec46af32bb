import 'reflect-metadata' // @peculiar/x509 resolves its parts through it: it must be loaded first
import { createHash, createPrivateKey, createPublicKey, randomBytes, type X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import * as x509 from '@peculiar/x509'
import { PawlError } from '../errors.ts'
import { backdatedDays, type CertificateKind, certificateProfiles, type KeyUsage } from './profiles.ts'

/** A certificate to be made. */
export interface CertificateRequest {
  readonly kind: CertificateKind
  readonly commonName: string
  /** DNS names and IP addresses for subjectAltName; none for a CA. */
  readonly names: readonly string[]
  /** The subject's private key, PEM (PKCS#8); its public key is enough where an issuer signs. */
  readonly key: string
  readonly now: Date
  /** An end before the kind's own. */
  readonly notAfter?: Date
  /** Who signs; left out, the certificate signs itself. */
  readonly issuer?: { readonly certificate: string; readonly key: string }
}

const algorithm = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
const dayMilliseconds = 86_400_000
const maxCommonNameLength = 64 // ub-common-name, RFC 5280 appendix A.1

/** Makes a certificate of `kind`, PEM. It never begins before its issuer nor ends after it. */
export async function makeCertificate(request: CertificateRequest): Promise<string> {
  const issuer = request.issuer && new x509.X509Certificate(request.issuer.certificate)
  const subject = subjectOf(request.commonName)
  const publicKey = createPublicKey(request.key).export({ type: 'spki', format: 'der' })
  const made = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject,
    issuer: issuer?.subjectName ?? subject,
    ...validity(request, issuer),
    publicKey: new x509.PublicKey(publicKey),
    signingKey: await createPrivateKey(request.issuer?.key ?? request.key).toCryptoKey(algorithm, false, [
      'sign',
    ]),
    signingAlgorithm: algorithm,
    extensions: extensions(request, publicKey, issuer ? new Uint8Array(issuer.publicKey.rawData) : publicKey),
  })
  return `${made.toString('pem')}\n`
}

/** Makes a request for a certificate (PKCS#10, PEM), signed by the key it is for. */
export async function makeSigningRequest(key: string, commonName: string): Promise<string> {
  const [privateKey, publicKey] = await Promise.all([
    createPrivateKey(key).toCryptoKey(algorithm, true, ['sign']),
    createPublicKey(key).toCryptoKey(algorithm, true, ['verify']),
  ])
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: subjectOf(commonName),
    keys: { privateKey, publicKey },
    signingAlgorithm: algorithm,
  })
  return `${request.toString('pem')}\n`
}

/** The public key (SPKI, PEM) of a request for a certificate, whose sender has shown to have the private one. Throws `signature-invalid`. */
export async function keyOfRequest(pem: string): Promise<string> {
  try {
    const request = new x509.Pkcs10CertificateRequest(pem)
    if (await request.verify()) return request.publicKey.toString('pem')
  } catch (cause) {
    throw new PawlError('signature-invalid', 'this is not a certificate request (PKCS#10, PEM)', { cause })
  }
  throw new PawlError('signature-invalid', 'the certificate request is not signed by its own key')
}

/** The key usages that a certificate names; undefined where it names none. Only for certificates that the operator chose. */
export function keyUsagesOf(certificate: X509Certificate): KeyUsage[] | undefined {
  const found = new x509.X509Certificate(certificate.raw).getExtension(x509.KeyUsagesExtension)
  const all = ['digitalSignature', 'keyEncipherment', 'keyCertSign', 'cRLSign'] as const
  return found === null ? undefined : all.filter((name) => (found.usages & x509.KeyUsageFlags[name]) !== 0)
}

function validity(
  { kind, now, notAfter }: CertificateRequest,
  issuer: x509.X509Certificate | undefined,
): { notBefore: Date; notAfter: Date } {
  const begin = now.getTime() - backdatedDays * dayMilliseconds
  const longest = now.getTime() + certificateProfiles[kind].lifetimeDays * dayMilliseconds
  const end = Math.min(longest, notAfter?.getTime() ?? longest)
  return {
    notBefore: wholeSeconds(Math.max(begin, issuer?.notBefore.getTime() ?? begin)),
    notAfter: wholeSeconds(Math.min(end, issuer?.notAfter.getTime() ?? end)),
  }
}

function extensions(
  request: CertificateRequest,
  subjectKey: Uint8Array,
  issuerKey: Uint8Array,
): x509.Extension[] {
  const { pathLength, keyUsages, extendedKeyUsage: purpose } = certificateProfiles[request.kind]
  const usage = keyUsages.reduce((sum, name) => sum | x509.KeyUsageFlags[name], 0)
  return [
    new x509.BasicConstraintsExtension(pathLength !== undefined, pathLength, true),
    new x509.KeyUsagesExtension(usage, true),
    new x509.SubjectKeyIdentifierExtension(keyIdentifier(subjectKey)),
    new x509.AuthorityKeyIdentifierExtension(keyIdentifier(issuerKey)),
    ...(purpose ? [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage[purpose]])] : []),
    ...(request.names.length > 0
      ? [new x509.SubjectAlternativeNameExtension(request.names.map(alternativeName))]
      : []),
  ]
}

function alternativeName(name: string): x509.JsonGeneralName {
  return { type: isIP(name) === 0 ? 'dns' : 'ip', value: name }
}

/** RFC 7093 §2 method 1: the leftmost 160 bits of the SHA-256 of the key. Any stable value will do. */
function keyIdentifier(publicKey: Uint8Array): string {
  return createHash('sha256').update(publicKey).digest('hex').slice(0, 40)
}

/** A name that is too long for a common name is in subjectAltName, where clients look for it. */
function subjectOf(commonName: string): x509.Name {
  return new x509.Name([{ CN: [commonName.length > maxCommonNameLength ? 'Pawl' : commonName] }])
}

/** 127 random bits, positive and without a leading zero byte (RFC 5280 §4.1.2.2). */
function serialNumber(): string {
  const bytes = randomBytes(16)
  bytes.writeUInt8((bytes.readUInt8(0) & 0x7f) | 0x40, 0)
  return bytes.toString('hex')
}

function wholeSeconds(milliseconds: number): Date {
  return new Date(Math.floor(milliseconds / 1000) * 1000)
}
