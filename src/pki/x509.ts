/**
 * Keys and certificates. The library that makes certificates is loaded when one is made, or asked for: a server that starts with its own
 * does neither, and loading it is a fifteenth of its start.
 */
import { createHash, createPrivateKey, createPublicKey, generateKeyPair, X509Certificate } from 'node:crypto'
import { promisify } from 'node:util'
import { rsaBits } from './profiles.ts'
import type { CertificateRequest } from './x509-library.ts'

/** Makes an RSA private key, PEM (PKCS#8, not encrypted: its file's mode protects it). */
export async function generateKey(modulusLength = rsaBits): Promise<string> {
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength })
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** Makes a key of the curve P-256, PEM (PKCS#8). */
export async function generateEcKey(): Promise<string> {
  const { privateKey } = await promisify(generateKeyPair)('ec', { namedCurve: 'P-256' })
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** Makes a certificate of `kind`, PEM. It never begins before its issuer nor ends after it. */
export async function makeCertificate(request: CertificateRequest): Promise<string> {
  return (await import('./x509-library.ts')).makeCertificate(request)
}

/** Makes a request for a certificate (PKCS#10, PEM), signed by the key it is for. */
export async function makeSigningRequest(key: string, commonName: string): Promise<string> {
  return (await import('./x509-library.ts')).makeSigningRequest(key, commonName)
}

/** The public key (SPKI, PEM) of a request for a certificate, whose sender has shown to have the private one. Throws `signature-invalid`. */
export async function keyOfRequest(pem: string): Promise<string> {
  return (await import('./x509-library.ts')).keyOfRequest(pem)
}

/** Whether private `key` (PEM) belongs to `certificate`. */
export function keyFits(certificate: X509Certificate, key: string): boolean {
  return certificate.checkPrivateKey(createPrivateKey(key))
}

/** The first 8 hex digits of a key's SHA-256: tells one installation's CA from another's in a list of roots. */
export function keyLabel(key: string): string {
  return createHash('sha256')
    .update(createPublicKey(key).export({ type: 'spki', format: 'der' }))
    .digest('hex')
    .slice(0, 8)
}

/** A certificate's SHA-256, of the first in a PEM: how iPXE knows a root. */
export function rootFingerprint(pem: string): string {
  return createHash('sha256').update(new X509Certificate(pem).raw).digest('hex')
}

/** The two ends of a certificate's lifetime. */
export function lifetimeOf(certificate: X509Certificate): { notBefore: Date; notAfter: Date } {
  return { notBefore: certificate.validFromDate, notAfter: certificate.validToDate }
}
