/**
 * The CAs of client certificates: one for operators, one for nodes. Each signs nothing else, and one listener alone believes
 * it, so that a node's certificate is nothing to the operator listener and an operator's is nothing to the boot listener.
 * Neither is under the root that machines trust: iPXE takes any certificate of that root for a server's.
 *
 *     DIR/pki/clients.key, clients.crt   of operators: used by the running server to issue, and by the operator listener to check
 *     DIR/pki/nodes.key, nodes.crt       of nodes: the same, and the boot listener
 */
import { createPublicKey, X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { PawlError } from '../errors.ts'
import { createFile, findPublicFile, readSecretFile, writeSecretFile } from './key-file.ts'
import type { CertificateKind } from './profiles.ts'
import { generateKey, keyFits, keyLabel, keyOfRequest, makeCertificate } from './x509.ts'

/** Whose certificates a CA signs. */
export type ClientKind = 'operator' | 'node'

/** The CAs as a table: what their files and certificates are called. */
const kinds: Readonly<
  Record<ClientKind, { file: string; commonName: string; issues: CertificateKind; clients: string }>
> = {
  operator: { file: 'clients', commonName: 'Pawl clients', issues: 'operator-client', clients: 'client' },
  node: { file: 'nodes', commonName: 'Pawl nodes', issues: 'node-client', clients: 'node' },
}

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

function filesOf(dataDir: string, kind: ClientKind): { key: string; certificate: string } {
  const path = (ending: string): string => join(dataDir, 'pki', `${kinds[kind].file}.${ending}`)
  return { key: path('key'), certificate: path('crt') }
}

/** Makes what is missing of both CAs, as in a data folder of before; returns the paths of what it made. */
export async function createClientAuthorities(dataDir: string, now: Date): Promise<string[]> {
  const [operators, nodes] = [
    await createClientAuthority(dataDir, 'operator', now),
    await createClientAuthority(dataDir, 'node', now),
  ]
  return [...operators, ...nodes]
}

/** Makes what is missing of a CA; returns the paths of what it made. Of two that do so at once, both get the same. */
async function createClientAuthority(dataDir: string, kind: ClientKind, now: Date): Promise<string[]> {
  const files = filesOf(dataDir, kind)
  if (existsSync(files.certificate)) return []
  const created: string[] = []
  if (!existsSync(files.key) && writeSecretFile(files.key, await generateKey())) created.push(files.key)
  const key = readSecretFile(files.key)
  const commonName = `${kinds[kind].commonName} ${keyLabel(key)}`
  const made = await makeCertificate({ kind: 'client-root', commonName, names: [], key, now })
  if (createFile(files.certificate, made, 0o644)) created.push(files.certificate)
  return created
}

/** Whether there is a CA; a data folder of before has none until its server starts. */
export function hasClientAuthority(dataDir: string, kind: ClientKind): boolean {
  return existsSync(filesOf(dataDir, kind).certificate)
}

/** Loads a CA; throws `certificate-invalid` and `key-unreadable`. */
export function openClientAuthority(dataDir: string, kind: ClientKind): ClientAuthority {
  const files = filesOf(dataDir, kind)
  const hint = `restore both from the same backup, or remove both and run pawl init: every ${kinds[kind].clients} needs a new certificate then`
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
        kind: kinds[kind].issues,
        commonName: `Pawl ${kind} ${name}`.slice(0, 64),
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
