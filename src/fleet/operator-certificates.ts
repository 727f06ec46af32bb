import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import { quote } from '../domain/node.ts'
import { PawlError } from '../errors.ts'
import { appendEvent } from '../storage/events.ts'
import { insertCertificate, listCertificates, revokeCertificateRow } from '../storage/identity.ts'
import type { OperatorCertificateRow } from '../storage/identity-tables.ts'
import type { Role } from '../storage/tables.ts'
import type { By } from './change.ts'
import { onceIn } from './idempotency.ts'
import { parseOperatorName, parseScope } from './operators.ts'

/** Makes a client certificate for the key of a request (PKCS#10, PEM); the server's own CA for clients does. */
export type ClientCertificateIssuer = (asked: {
  readonly name: string
  readonly request: string
  readonly now: Date
  readonly notAfter: Date
}) => Promise<{ readonly certificate: string; readonly fingerprint: string; readonly notAfter: Date }>

/** A client certificate to issue. */
export interface NewCertificate {
  readonly name: string
  readonly role: Role
  readonly scope?: string | null
  /** Left out: 90 days. */
  readonly expiresAt?: Date | undefined
  /** PKCS#10, PEM. Only its key counts. */
  readonly request: string
}

/** A client certificate as operators see it. */
export interface CertificateView {
  readonly id: string
  /** SHA-256 of its DER. */
  readonly fingerprint: string
  readonly name: string
  readonly role: Role
  readonly scope: string | null
  readonly createdAt: string
  readonly createdBy: string
  readonly expiresAt: string
  readonly revokedAt: string | null
  readonly lastUsedAt: string | null
  readonly lastUsedFrom: string | null
}

/** One just issued. */
export interface IssuedCertificate extends CertificateView {
  /** PEM: it, and the CA that issued it. */
  readonly certificate: string
}

const defaultSeconds = 90 * 86_400
const maxSeconds = 825 * 86_400

/** Issues a client certificate, and writes down what it may do. Throws `invalid` and `signature-invalid`. */
export async function issueCertificate(
  context: BootContext,
  issuer: ClientCertificateIssuer,
  by: By,
  asked: NewCertificate,
): Promise<IssuedCertificate> {
  const now = context.clock()
  const name = parseOperatorName(asked.name)
  const scope = parseScope(asked)
  const wanted = asked.expiresAt ?? addSeconds(now, defaultSeconds)
  checkExpiry(wanted, now)
  const { certificate, fingerprint, notAfter } = await issuer({
    name,
    request: asked.request,
    now,
    notAfter: wanted,
  })
  const row: OperatorCertificateRow = {
    id: Buffer.from(context.randomBytes(9)).toString('base64url'),
    fingerprint,
    name,
    role: asked.role,
    scope,
    created_at: now.toISOString(),
    created_by: by.actor,
    expires_at: notAfter.toISOString(),
    revoked_at: null,
    last_used_at: null,
    last_used_from: null,
  }
  return context.storage.transaction((tx) =>
    onceIn({ tx, now, sealer: context.sealer }, by, async () => {
      await insertCertificate(tx, row)
      const { id, role, expires_at: expiresAt } = row
      const detail = { id, name, role, scope, expiresAt, fingerprint }
      await appendEvent(tx, eventOf('certificate-issued', now, by, detail))
      return { ...viewOf(row), certificate }
    }),
  )
}

function checkExpiry(wanted: Date, now: Date): void {
  if (wanted <= now)
    throw new PawlError('invalid', `the certificate would expire at ${wanted.toISOString()}, which is over`)
  if (wanted > addSeconds(now, maxSeconds))
    throw new PawlError('invalid', 'a client certificate lasts at most 825 days')
}

/** Shows every client certificate, the newest first. */
export async function showCertificates(context: BootContext): Promise<CertificateView[]> {
  return (await listCertificates(context.storage.db)).map(viewOf)
}

/** Takes a client certificate back, at once and for ever. Throws `not-found`. */
export async function revokeCertificate(context: BootContext, by: By, id: string): Promise<CertificateView> {
  const now = context.clock()
  return context.storage.transaction(async (tx) => {
    const revoked = await revokeCertificateRow(tx, id, now)
    if (revoked === undefined) {
      const known = (await listCertificates(tx)).find((row) => row.id === id)
      if (known !== undefined) return viewOf(known)
      throw new PawlError('not-found', `no client certificate has the id ${quote(id)}`, {
        hint: 'list them with pawl operator certificate list',
      })
    }
    const { name, role, fingerprint } = revoked
    await appendEvent(tx, eventOf('certificate-revoked', now, by, { id, name, role, fingerprint }))
    return viewOf(revoked)
  })
}

function eventOf(
  kind: 'certificate-issued' | 'certificate-revoked',
  at: Date,
  { actor, source }: By,
  detail: Readonly<Record<string, unknown>>,
) {
  return { kind, at, node: null, session: null, actor, source, detail }
}

function viewOf(row: OperatorCertificateRow): CertificateView {
  const { id, fingerprint, name, role, scope } = row
  return {
    id,
    fingerprint,
    name,
    role,
    scope,
    createdAt: row.created_at,
    createdBy: row.created_by,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
    lastUsedAt: row.last_used_at,
    lastUsedFrom: row.last_used_from,
  }
}
