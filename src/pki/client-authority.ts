/**
 * The CA of operators' client certificates: one of its own, that signs nothing else and that nobody but the operator
 * listener believes. It is not under the root that machines trust: iPXE takes any certificate of that root for a server's.
 *
 *     DIR/pki/clients.key   used by the running server to issue
 *     DIR/pki/clients.crt   what the operator listener checks client certificates against
 */
import { createPublicKey, X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { PawlError } from '../errors.ts'
import { createFile, findPublicFile, readSecretFile, writeSecretFile } from './key-file.ts'
import { generateKey, keyFits, keyLabel, keyOfRequest, makeCertificate } from './x509.ts'

/** What is asked of the CA. */
export interface ClientCertificateRequest {
  readonly name: string
  /** PKCS#10, PEM: only its key counts. */
  readonly request: string
  readonly now: Date
  readonly notAfter: Date
}

/** The CA of client certificates, ready to issue. */
export interface ClientAuthority {
  /** PEM. */
  readonly certificate: string
  /** Issues a certificate; throws `signature-invalid`, and `invalid` for a weak key. */
  issue(
    asked: ClientCertificateRequest,
  ): Promise<{ certificate: string; fingerprint: string; notAfter: Date }>
}

function filesOf(dataDir: string): { key: string; certificate: string } {
  return { key: join(dataDir, 'pki', 'clients.key'), certificate: join(dataDir, 'pki', 'clients.crt') }
}

/** Makes what is missing of the CA; returns the paths of what it made. Of two that do so at once, both get the same. */
export async function createClientAuthority(dataDir: string, now: Date): Promise<string[]> {
  const files = filesOf(dataDir)
  if (existsSync(files.certificate)) return []
  const created: string[] = []
  if (!existsSync(files.key) && writeSecretFile(files.key, await generateKey())) created.push(files.key)
  const key = readSecretFile(files.key)
  const commonName = `Pawl clients ${keyLabel(key)}`
  const made = await makeCertificate({ kind: 'client-root', commonName, names: [], key, now })
  if (createFile(files.certificate, made, 0o644)) created.push(files.certificate)
  return created
}

/** Loads the CA; throws `certificate-invalid` and `key-unreadable`. */
export function openClientAuthority(dataDir: string): ClientAuthority {
  const files = filesOf(dataDir)
  const hint =
    'restore both from the same backup, or remove both and run pawl init: every client needs a new certificate then'
  const certificate = findPublicFile(files.certificate)
  if (certificate === undefined)
    throw new PawlError('certificate-invalid', `${files.certificate} is not there`, { hint })
  const key = readSecretFile(files.key, hint)
  if (!isPair(certificate, key))
    throw new PawlError('certificate-invalid', `${files.key} does not belong to ${files.certificate}`, {
      hint,
    })
  return {
    certificate,
    async issue({ name, request, now, notAfter }) {
      const made = await makeCertificate({
        kind: 'operator-client',
        commonName: `Pawl operator ${name}`.slice(0, 64),
        names: [],
        key: strongKey(await keyOfRequest(request)),
        now,
        notAfter,
        issuer: { certificate, key },
      })
      const { fingerprint256, validToDate } = new X509Certificate(made)
      return {
        certificate: made + certificate,
        fingerprint: fingerprint256.replaceAll(':', '').toLowerCase(),
        notAfter: validToDate,
      }
    },
  }
}

function isPair(certificate: string, key: string): boolean {
  try {
    return keyFits(new X509Certificate(certificate), key)
  } catch {
    return false
  }
}

/** RSA from 2048 bits on, or a curve that TLS 1.3 has. */
function strongKey(pem: string): string {
  const { asymmetricKeyType, asymmetricKeyDetails = {} } = createPublicKey(pem)
  const { modulusLength = 0, namedCurve } = asymmetricKeyDetails
  const isStrong =
    (asymmetricKeyType === 'rsa' && modulusLength >= 2048 && modulusLength <= 8192) ||
    (asymmetricKeyType === 'ec' && (namedCurve === 'prime256v1' || namedCurve === 'secp384r1'))
  if (isStrong) return pem
  throw new PawlError(
    'invalid',
    'the key of the certificate request is neither RSA with 2048 to 8192 bits, nor P-256, nor P-384',
  )
}
