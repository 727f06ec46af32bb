import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { join } from 'node:path'
import type { Authority } from './authority.ts'
import { findSecretFile, writeFileDurably } from './key-file.ts'
import { generateKey, keyFits } from './x509.ts'

/** Which of the two listeners. */
export type ListenerKind = 'boot' | 'operator'

/** What `https.createServer` and `server.setSecureContext` take. `cert` is the leaf, the issuing CA and the root. */
export type TlsOptions = {
  readonly key: string
  readonly cert: string
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3'
  readonly honorCipherOrder?: boolean
  readonly dhparam?: 'auto'
  readonly ca?: string
  readonly requestCert?: true
  /** A certificate that is no good is refused with a reason, by HTTP, not by a handshake that nobody understands. */
  readonly rejectUnauthorized?: false
}

/** What `loadTls` is told. `now` decides about renewal. */
export interface TlsRequest {
  readonly kind: ListenerKind
  /** Host names and IP addresses that clients use. The operator listener answers to this machine's own names too. */
  readonly names: readonly string[]
  readonly now: Date
  /** The CA of client certificates: they are asked for, and needed by nobody. */
  readonly clientCa?: string
}

/** The certificate of one listener, kept up to date. */
export interface ServerTls {
  options(): TlsOptions
  readonly notAfter: Date
  /** Makes a new key and certificate when it is time; true means: hand `options()` to `server.setSecureContext`. */
  renewIfDue(now: Date): Promise<boolean>
}

interface Leaf {
  readonly key: string
  readonly certificate: string
  readonly parsed: X509Certificate
}

/**
 * The boot listener speaks what boot firmware of 2019 to 2026 does: TLS 1.2, and Node's default ciphers, which still have
 * the RSA key exchange. With `dhparam` UEFI's HTTPS Boot, which has no ECDHE, gets forward secrecy by DHE.
 */
const settings: Readonly<Record<ListenerKind, Omit<TlsOptions, 'key' | 'cert'>>> = {
  boot: { minVersion: 'TLSv1.2', honorCipherOrder: true, dhparam: 'auto' },
  operator: { minVersion: 'TLSv1.3' },
}

const ownNames = ['localhost', '127.0.0.1', '::1']
const dayMilliseconds = 86_400_000

/** Loads a listener's key and certificate from `DIR/pki/KIND.pem`, or makes them when missing, due or for other names. */
export async function loadTls(authority: Authority, request: TlsRequest): Promise<ServerTls> {
  const { kind } = request
  const names = [...new Set(kind === 'operator' ? [...request.names, ...ownNames] : request.names)]
  const clients =
    request.clientCa === undefined
      ? {}
      : ({ ca: request.clientCa, requestCert: true, rejectUnauthorized: false } as const)
  const file = join(authority.folder, `${kind}.pem`)
  const stored = readLeaf(file)
  const usable = stored !== undefined && isOurs(authority, stored.parsed) && hasNames(stored.parsed, names)
  let leaf = usable && !isDue(authority, stored.parsed, request.now) ? stored : await issue(request.now)

  async function issue(now: Date): Promise<Leaf> {
    const key = await generateKey()
    const certificate = await authority.issue({ kind: `${kind}-server`, names, key, now })
    // Key and certificate are one file, so that no crash leaves one without the other.
    writeFileDurably(file, key + certificate, 0o600)
    return { key, certificate, parsed: new X509Certificate(certificate) }
  }

  return {
    options() {
      // iPXE that knows only the fingerprint of a root needs the root itself in the chain; others pass over it.
      const cert = leaf.certificate + authority.issuingCertificate + authority.rootCertificate
      return { key: leaf.key, cert, ...settings[kind], ...clients }
    },
    get notAfter() {
      return leaf.parsed.validToDate
    },
    async renewIfDue(now) {
      if (!isDue(authority, leaf.parsed, now)) return false
      leaf = await issue(now)
      return true
    },
  }
}

/** What cannot be read as a key and its certificate is made again. A file that others can reach is refused, not replaced. */
function readLeaf(file: string): Leaf | undefined {
  const text = findSecretFile(file) ?? ''
  const split = text.indexOf('-----BEGIN CERTIFICATE-----')
  if (split < 0) return undefined
  const [key, certificate] = [text.slice(0, split), text.slice(split)]
  try {
    const parsed = new X509Certificate(certificate)
    return keyFits(parsed, key) ? { key, certificate, parsed } : undefined
  } catch {
    return undefined
  }
}

/** A CA that was replaced, or restored from a backup, makes the listener's old certificate worthless. */
function isOurs(authority: Authority, leaf: X509Certificate): boolean {
  const issuing = new X509Certificate(authority.issuingCertificate)
  return leaf.checkIssued(issuing) && leaf.verify(issuing.publicKey)
}

/** Exactly these names: one that was taken out of the settings must not live on in the certificate. */
function hasNames(leaf: X509Certificate, names: readonly string[]): boolean {
  const count = leaf.subjectAltName?.split(', ').length ?? 0
  const has = (name: string) =>
    isIP(name) === 0 ? leaf.checkHost(name, { subject: 'never' }) : leaf.checkIP(name)
  return count === names.length && names.every((name) => has(name) !== undefined)
}

/** In its last third, or not begun yet by a clock that was set back; unless a new one would not last longer. */
function isDue(authority: Authority, leaf: X509Certificate, now: Date): boolean {
  const [begin, end] = [leaf.validFromDate.getTime(), leaf.validToDate.getTime()]
  if (now.getTime() < begin || now.getTime() >= end) return true
  const inLastThird = end - now.getTime() < (end - begin) / 3
  return inLastThird && authority.issuingNotAfter.getTime() - end > dayMilliseconds
}
