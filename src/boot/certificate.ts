import { addSeconds } from '../domain/clock.ts'
import { Refusal, type RefusalCause } from '../domain/refusal.ts'
import type { Queries } from '../storage/database.ts'
import { findNodeCertificate, noteCertificateUse } from '../storage/node-certificates.ts'
import type { NodeRecord } from '../storage/nodes.ts'

/** A client certificate as the connection showed it: the handshake has proved that the client has the key. */
export interface PresentedCertificate {
  /** SHA-256 of its DER, lower-case hex. */
  readonly fingerprint: string
  /** Whether the CA of nodes signed it. Its dates are no part of this: they are in its row. */
  readonly trusted: boolean
  /** Set where its dates are wrong: nothing but its row says then whether the CA of nodes signed it. */
  readonly outdated?: true
  /** Its owner as it says itself, for events about certificates of other CAs; bounded, printable. */
  readonly subject: string
}

/** Whose use it is written down as, and from where. */
export interface CertificateUse {
  readonly now: Date
  readonly source: string
}

const noteEverySeconds = 60

/**
 * Checks a client certificate against its row, which alone makes it count: a certificate that is right in itself and was
 * revoked, or whose node was removed, is nothing. Throws the Refusal that says what is wrong; `undefined` presented is `absent`.
 */
export async function checkCertificate(
  db: Queries,
  node: Pick<NodeRecord, 'id' | 'name'>,
  presented: PresentedCertificate | undefined,
  { now, source }: CertificateUse,
): Promise<'proof' | 'absent'> {
  if (presented === undefined) return 'absent'
  const { fingerprint, trusted, outdated, subject } = presented
  const refuse = (cause: RefusalCause, detail: Readonly<Record<string, unknown>> = {}): Refusal =>
    new Refusal(cause, { node: node.name, detail: { fingerprint, ...detail } })
  if (!trusted) throw refuse('certificate-other-ca', { subject })
  const row = await findNodeCertificate(db, fingerprint)
  if (row === undefined)
    throw refuse(outdated === true ? 'certificate-expired' : 'certificate-unknown', { subject })
  if (row.node !== node.id) throw refuse('certificate-foreign', { issuedTo: row.name })
  if (row.revoked_at !== null) throw refuse('certificate-revoked', { revokedAt: row.revoked_at })
  if (Date.parse(row.expires_at) <= now.getTime())
    throw refuse('certificate-expired', { expiresAt: row.expires_at })
  const before = addSeconds(now, -noteEverySeconds).toISOString()
  if (row.last_used_at === null || row.last_used_at < before || row.last_used_from !== source)
    await noteCertificateUse(db, fingerprint, { now, source })
  return 'proof'
}

/** The same where it must be there: of a download, which has no list of evidence of its own. */
export async function requireCertificate(
  db: Queries,
  node: Pick<NodeRecord, 'id' | 'name'>,
  presented: PresentedCertificate | undefined,
  use: CertificateUse,
): Promise<void> {
  if ((await checkCertificate(db, node, presented, use)) === 'absent')
    throw new Refusal('no-certificate', { node: node.name })
}
