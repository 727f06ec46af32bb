import type { Queries, Storage, Tx } from './database.ts'
import type { ProposalRow } from './image-tables.ts'

/** Stores a proposal. */
export async function insertProposal(tx: Tx, row: ProposalRow): Promise<void> {
  await tx.insertInto('proposals').values(row).execute()
}

/** Finds a proposal. */
export function findProposal(db: Queries, id: string): Promise<ProposalRow | undefined> {
  return db.selectFrom('proposals').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Finds a proposal and keeps other transactions from deciding it. */
export function lockProposal(
  tx: Tx,
  dialect: Storage['dialect'],
  id: string,
): Promise<ProposalRow | undefined> {
  const query = tx.selectFrom('proposals').selectAll().where('id', '=', id)
  return (dialect === 'postgres' ? query.forUpdate() : query).executeTakeFirst()
}

/** Proposals, the newest first: those that wait, or the last ones of all states. */
export function listProposals(
  db: Queries,
  options: { waiting: boolean; limit: number },
): Promise<ProposalRow[]> {
  let query = db.selectFrom('proposals').selectAll()
  if (options.waiting) query = query.where('state', '=', 'waiting')
  return query.orderBy('proposed_at', 'desc').orderBy('id').limit(options.limit).execute()
}

/** Decides a proposal that waits. */
export async function decideProposal(
  tx: Tx,
  id: string,
  decision: Pick<ProposalRow, 'state' | 'decided_by' | 'decided_at'>,
): Promise<void> {
  await tx
    .updateTable('proposals')
    .set(decision)
    .where('id', '=', id)
    .where('state', '=', 'waiting')
    .execute()
}

/** Ends proposals that waited too long. */
export async function expireProposals(tx: Tx, now: Date): Promise<void> {
  await tx
    .updateTable('proposals')
    .set({ state: 'expired', decided_at: now.toISOString() })
    .where('state', '=', 'waiting')
    .where('expires_at', '<=', now.toISOString())
    .execute()
}
