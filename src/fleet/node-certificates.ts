import { X509Certificate } from 'node:crypto'
import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import { quote } from '../domain/node.ts'
import { PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import type { NodeCertificateRow } from '../storage/machine-tables.ts'
import {
  countGoodCertificates,
  insertNodeCertificate,
  listNodeCertificates,
  revokeNodeCertificateRow,
} from '../storage/node-certificates.ts'
import { findNode } from '../storage/nodes.ts'
import { type By, change, noSuchNode } from './change.ts'
import { lock } from './nodes.ts'
import type { ClientCertificateIssuer } from './operator-certificates.ts'

/** A client certificate of a node to issue. */
export interface NewNodeCertificate {
  /** PKCS#10, PEM. Only its key counts. */
  readonly request: string
  /** Left out: a year. */
  readonly expiresAt?: Date | undefined
}

/** A client certificate of a node as operators see it. */
export interface NodeCertificateView {
  /** SHA-256 of its DER. */
  readonly fingerprint: string
  /** `RSA 2048`, `P-256`. */
  readonly keyType: string
  readonly issuedAt: string
  readonly issuedBy: string
  readonly expiresAt: string
  readonly revokedAt: string | null
  readonly revokedBy: string | null
  readonly lastUsedAt: string | null
  readonly lastUsedFrom: string | null
}

/** One just issued. */
export interface IssuedNodeCertificate extends NodeCertificateView {
  readonly node: string
  /** PEM: it, and the CA that issued it. */
  readonly certificate: string
}

const daySeconds = 86_400
const defaultSeconds = 365 * daySeconds
/** Machines are renewed in about this time; one that is forgotten must not be good for ever. */
const maxDays = 5 * 365
/** The one in use, the next one, and some that were lost: more is a script gone wild. */
const maxGood = 16

/** Issues a client certificate for a node; those it has stay good. Throws `not-found`, `invalid`, `conflict` and `signature-invalid`. */
export async function issueNodeCertificate(
  context: BootContext,
  issuer: ClientCertificateIssuer,
  by: By,
  name: string,
  asked: NewNodeCertificate,
): Promise<IssuedNodeCertificate> {
  const now = context.clock()
  const wanted = asked.expiresAt ?? addSeconds(now, defaultSeconds)
  checkExpiry(wanted, now)
  // Signing waits for more than the database, so it is done before the transaction; a certificate without a row is nothing.
  const made = await issuer({ name, request: asked.request, now, notAfter: wanted })
  return change(context, by, async (change) => {
    const node = await lock(change, name)
    if ((await countGoodCertificates(change.tx, node.id, now)) >= maxGood) {
      throw new PawlError('conflict', `node "${name}" has ${maxGood} certificates that are good`, {
        hint: `take back those that are not in use: pawl node certificate list ${name}`,
      })
    }
    const row: NodeCertificateRow = {
      fingerprint: made.fingerprint,
      node: node.id,
      key_type: keyTypeOf(made.certificate),
      issued_at: now.toISOString(),
      issued_by: by.actor,
      expires_at: made.notAfter.toISOString(),
      revoked_at: null,
      revoked_by: null,
      last_used_at: null,
      last_used_from: null,
    }
    await insertNodeCertificate(change.tx, row)
    const { fingerprint, key_type: keyType, expires_at: expiresAt } = row
    await change.note('node-certificate-issued', name, { fingerprint, keyType, expiresAt })
    return { ...viewOf(row), node: name, certificate: made.certificate }
  })
}

/** Shows a node's certificates, the newest first. Throws `not-found`. */
export async function showNodeCertificates(db: Queries, name: string): Promise<NodeCertificateView[]> {
  const node = await findNode(db, name)
  if (node === undefined) throw noSuchNode(name)
  return (await listNodeCertificates(db, node.id)).map(viewOf)
}

/**
 * Takes a certificate of a node back, at once and for ever: a boot under way that needs it gets no further. The beginning of
 * its fingerprint is enough where it names one. Twice is once. Throws `not-found` and `invalid`.
 */
export function revokeNodeCertificate(
  context: BootContext,
  by: By,
  name: string,
  fingerprint: string,
): Promise<NodeCertificateView> {
  return change(context, by, async (change) => {
    const node = await lock(change, name)
    const row = chosen(name, fingerprint, await listNodeCertificates(change.tx, node.id))
    const which = { node: node.id, fingerprint: row.fingerprint }
    const revoked = await revokeNodeCertificateRow(change.tx, which, { at: change.now, by: by.actor })
    if (revoked === undefined) return viewOf(row)
    const detail = { fingerprint: row.fingerprint, keyType: row.key_type, expiresAt: row.expires_at }
    await change.note('node-certificate-revoked', name, detail)
    return viewOf(revoked)
  })
}

function chosen(name: string, text: string, rows: readonly NodeCertificateRow[]): NodeCertificateRow {
  const wanted = text.replaceAll(':', '').toLowerCase()
  const fits = wanted.length < 8 ? [] : rows.filter(({ fingerprint }) => fingerprint.startsWith(wanted))
  const [row] = fits
  if (row !== undefined && fits.length === 1) return row
  if (fits.length > 1)
    throw new PawlError('invalid', `${quote(text)} begins the fingerprint of ${fits.length} certificates`)
  throw new PawlError('not-found', `node "${name}" has no certificate ${quote(text)}`, {
    hint: `list them with pawl node certificate list ${name}; eight digits of the fingerprint or more name one`,
  })
}

function checkExpiry(wanted: Date, now: Date): void {
  if (wanted <= now)
    throw new PawlError('invalid', `the certificate would expire at ${wanted.toISOString()}, which is over`)
  if (wanted > addSeconds(now, maxDays * daySeconds))
    throw new PawlError('invalid', `a node's certificate lasts at most ${maxDays} days`)
}

function keyTypeOf(pem: string): string {
  const { asymmetricKeyType, asymmetricKeyDetails = {} } = new X509Certificate(pem).publicKey
  const { modulusLength, namedCurve = '' } = asymmetricKeyDetails
  if (asymmetricKeyType === 'rsa') return `RSA ${modulusLength}`
  return { prime256v1: 'P-256', secp384r1: 'P-384' }[namedCurve] ?? namedCurve
}

function viewOf(row: NodeCertificateRow): NodeCertificateView {
  return {
    fingerprint: row.fingerprint,
    keyType: row.key_type,
    issuedAt: row.issued_at,
    issuedBy: row.issued_by,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
    revokedBy: row.revoked_by,
    lastUsedAt: row.last_used_at,
    lastUsedFrom: row.last_used_from,
  }
}
