import type { Queries, Tx } from './database.ts'
import type { NodeCertificateRow } from './machine-tables.ts'

/** A certificate, with whose it is. */
export type CertificateOfNode = NodeCertificateRow & { readonly name: string }

/** Stores a certificate just made. */
export async function insertNodeCertificate(tx: Tx, row: NodeCertificateRow): Promise<void> {
  await tx.insertInto('node_certificates').values(row).execute()
}

/** Finds a certificate by the SHA-256 of its DER, whosever it is; revoked and expired ones too. */
export function findNodeCertificate(
  db: Queries,
  fingerprint: string,
): Promise<CertificateOfNode | undefined> {
  return db
    .selectFrom('node_certificates')
    .innerJoin('nodes', 'nodes.id', 'node_certificates.node')
    .selectAll('node_certificates')
    .select('nodes.name')
    .where('node_certificates.fingerprint', '=', fingerprint)
    .executeTakeFirst()
}

/** A node's certificates, the newest first. */
export function listNodeCertificates(db: Queries, node: string): Promise<NodeCertificateRow[]> {
  return db
    .selectFrom('node_certificates')
    .selectAll()
    .where('node', '=', node)
    .orderBy('issued_at', 'desc')
    .orderBy('fingerprint')
    .execute()
}

/** How many of a node's certificates are good now. */
export async function countGoodCertificates(db: Queries, node: string, now: Date): Promise<number> {
  const { count } = await db
    .selectFrom('node_certificates')
    .select((e) => e.fn.countAll<number | string>().as('count'))
    .where('node', '=', node)
    .where('revoked_at', 'is', null)
    .where('expires_at', '>', now.toISOString())
    .executeTakeFirstOrThrow()
  return Number(count)
}

/** Takes a certificate of a node back; undefined where it has no such one, or it was taken back before. */
export function revokeNodeCertificateRow(
  tx: Tx,
  { node, fingerprint }: { readonly node: string; readonly fingerprint: string },
  { at, by }: { readonly at: Date; readonly by: string },
): Promise<NodeCertificateRow | undefined> {
  return tx
    .updateTable('node_certificates')
    .set({ revoked_at: at.toISOString(), revoked_by: by })
    .where('node', '=', node)
    .where('fingerprint', '=', fingerprint)
    .where('revoked_at', 'is', null)
    .returningAll()
    .executeTakeFirst()
}

/** Writes down that a certificate was used. */
export async function noteCertificateUse(
  tx: Queries,
  fingerprint: string,
  { now, source }: { readonly now: Date; readonly source: string },
): Promise<void> {
  await tx
    .updateTable('node_certificates')
    .set({ last_used_at: now.toISOString(), last_used_from: source })
    .where('fingerprint', '=', fingerprint)
    .execute()
}
