/**
 * The certificates that the two listeners show, and how TLS is spoken on each.
 *
 *     DIR/pki/boot.pem         RSA: every boot firmware knows it
 *     DIR/pki/boot-ecdsa.pem   ECDSA P-256, beside it, for clients that say they take it
 *     DIR/pki/operator.pem
 *
 * OpenSSL picks one per handshake, by the suites, signature algorithms and curves that the client offers. Both lead to the
 * same issuing CA, whose signature is RSA: whoever takes ECDSA takes that too.
 */
import { constants, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { DEFAULT_CIPHERS } from 'node:tls'
import type { Authority, LeafRequest } from './authority.ts'
import { findSecretFile, writeFileDurably } from './key-file.ts'
import { generateEcKey, generateKey, keyFits, rootFingerprint } from './x509.ts'

/** Which of the two listeners. */
export type ListenerKind = 'boot' | 'operator'

/** What `https.createServer` and `server.setSecureContext` take. Each `cert` is a leaf, the issuing CA and the root. */
export type TlsOptions = {
  readonly key: string[]
  readonly cert: string[]
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3'
  readonly honorCipherOrder?: boolean
  readonly ciphers?: string
  readonly dhparam?: 'auto'
  readonly secureOptions?: number
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
  /** Whether the boot listener has an ECDSA certificate beside the RSA one. */
  readonly ecdsa?: boolean
}

/** The certificates of one listener, kept up to date. */
export interface ServerTls {
  options(): TlsOptions
  /** When the first of them ends. */
  readonly notAfter: Date
  /** The roots that lead to them, PEM: what clients must trust. */
  readonly roots: string
  /** SHA-256 of the root that is sent: how firmware knows it. */
  readonly root: string
  /** Makes new keys and certificates when it is time; true means: hand `options()` to `server.setSecureContext`. */
  renewIfDue(now: Date): Promise<boolean>
  /** For certificates that are not ours: takes new ones when their files have changed. True means the same. */
  reload?(now: Date): Promise<boolean>
}

interface Leaf {
  readonly key: string
  readonly certificate: string
  readonly parsed: X509Certificate
}

/** Suites of the ECDSA certificate before all others: who offers both costs half as much CPU (1.2 ms for 2.1 ms, measured). */
const ecdsaFirst = [
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
].join(':')

/**
 * The boot listener speaks what boot firmware of 2019 to 2026 does: TLS 1.2, and Node's default ciphers, which still have
 * the RSA key exchange. With `dhparam` UEFI's HTTPS Boot, which has no ECDHE, gets forward secrecy by DHE.
 */
export const tlsSettings: Readonly<Record<ListenerKind, Omit<TlsOptions, 'key' | 'cert'>>> = {
  boot: {
    minVersion: 'TLSv1.2',
    honorCipherOrder: true,
    ciphers: `${ecdsaFirst}:${DEFAULT_CIPHERS}`,
    dhparam: 'auto',
    // A client of TLS 1.2 could have the server shake hands again and again on one connection: nobody who boots does.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
  },
  operator: { minVersion: 'TLSv1.3' },
}

/** One certificate that a listener has. */
interface LeafKind {
  readonly file: string
  readonly kind: LeafRequest['kind']
  readonly generate: () => Promise<string>
}

const ownNames = ['localhost', '127.0.0.1', '::1']
const dayMilliseconds = 86_400_000

/** Which certificates a listener has: RSA, and ECDSA where it is asked for. */
function leafKinds({ kind, ecdsa }: TlsRequest): LeafKind[] {
  const rsa: LeafKind = { file: `${kind}.pem`, kind: `${kind}-server`, generate: () => generateKey() }
  if (kind !== 'boot' || ecdsa !== true) return [rsa]
  return [rsa, { file: 'boot-ecdsa.pem', kind: 'boot-server-ecdsa', generate: generateEcKey }]
}

/** How client certificates are asked for. */
export function clientsOf(clientCa: string | undefined): Partial<TlsOptions> {
  return clientCa === undefined ? {} : { ca: clientCa, requestCert: true, rejectUnauthorized: false }
}

/** Loads a listener's keys and certificates from `DIR/pki`, or makes those that are missing, due or for other names. */
export async function loadTls(authority: Authority, request: TlsRequest): Promise<ServerTls> {
  const { kind } = request
  const names = [...new Set(kind === 'operator' ? [...request.names, ...ownNames] : request.names)]
  const kinds = leafKinds(request)
  let leaves = await Promise.all(kinds.map((one) => findLeaf(authority, one, names, request.now)))
  return {
    options() {
      // iPXE that knows only the fingerprint of a root needs the root itself in the chain; others pass over it.
      const rest = authority.issuingCertificate + authority.rootCertificate
      return {
        key: leaves.map(({ key }) => key),
        cert: leaves.map(({ certificate }) => certificate + rest),
        ...tlsSettings[kind],
        ...clientsOf(request.clientCa),
      }
    },
    get notAfter() {
      return new Date(Math.min(...leaves.map(({ parsed }) => parsed.validToDate.getTime())))
    },
    roots: authority.rootCertificate,
    root: rootFingerprint(authority.rootCertificate),
    async renewIfDue(now) {
      const due = leaves.map(({ parsed }) => isDue(authority, parsed, now))
      if (!due.includes(true)) return false
      leaves = await Promise.all(
        leaves.map((leaf, at) => {
          const one = kinds[at]
          return due[at] === true && one !== undefined ? issue(authority, one, names, now) : leaf
        }),
      )
      return true
    },
  }
}

async function findLeaf(
  authority: Authority,
  kind: LeafKind,
  names: readonly string[],
  now: Date,
): Promise<Leaf> {
  const stored = readLeaf(join(authority.folder, kind.file))
  const usable = stored !== undefined && isOurs(authority, stored.parsed) && hasNames(stored.parsed, names)
  return usable && !isDue(authority, stored.parsed, now) ? stored : issue(authority, kind, names, now)
}

async function issue(
  authority: Authority,
  { file, kind, generate }: LeafKind,
  names: readonly string[],
  now: Date,
): Promise<Leaf> {
  const key = await generate()
  const certificate = await authority.issue({ kind, names, key, now })
  // Key and certificate are one file, so that no crash leaves one without the other.
  writeFileDurably(join(authority.folder, file), key + certificate, 0o600)
  return { key, certificate, parsed: new X509Certificate(certificate) }
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
