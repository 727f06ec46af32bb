import type { BootContext } from '../boot/context.ts'
import { canonicalJson } from '../domain/canonical-json.ts'
import { addSeconds } from '../domain/clock.ts'
import { quote } from '../domain/node.ts'
import { type ProposalKind, proposalLifetimeSeconds } from '../domain/proposal.ts'
import { PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import type { ProposalRow } from '../storage/image-tables.ts'
import { type PageRequest, pageOfProposals } from '../storage/pages.ts'
import {
  decideProposal,
  expireProposals,
  findProposal,
  insertProposal,
  listProposals,
  lockProposal,
} from '../storage/proposals.ts'
import type { Change } from './change.ts'
import { type Listed, listed } from './listed.ts'

/**
 * Changes that need two people: one proposes, which changes nothing, another approves, which does it. What a proposal
 * holds is the whole change, so that what was looked at is what is done.
 */

/** A change that waits, or has waited, for a second person. */
export interface ProposalView {
  readonly id: string
  readonly kind: ProposalKind
  /** What it is about: `worker/stable`, `small@2`. */
  readonly subject: string
  /** What will be done, as the change was sent. */
  readonly document: Readonly<Record<string, unknown>>
  readonly why: string | null
  readonly state: ProposalRow['state']
  readonly proposedBy: string
  readonly proposedAt: string
  readonly expiresAt: string
  readonly decidedBy: string | null
  readonly decidedAt: string | null
}

/** Who proposed and who approved a change that is carried out now. */
export interface Approval {
  readonly proposedBy: string
  readonly approvedBy: string
}

/** A change to put to a second person. */
export interface NewProposal {
  readonly kind: ProposalKind
  readonly subject: string
  readonly document: Readonly<Record<string, unknown>>
  readonly why: string | null
}

/** One token must not be able to keep all others from proposing. */
const maxWaitingEach = 20
const maxWaiting = 1000

/** Writes a proposal down. The same one again, while it waits, is no second one. */
export async function propose(change: Change, proposed: NewProposal): Promise<ProposalView> {
  const { tx, now, by, context } = change
  await expireProposals(tx, now)
  const waiting = await listProposals(tx, { waiting: true, limit: maxWaiting })
  const document = canonicalJson(proposed.document)
  const same = waiting.find(
    (row) => row.kind === proposed.kind && row.subject === proposed.subject && row.document === document,
  )
  if (same !== undefined) return viewOf(same)
  const own = waiting.filter((row) => row.proposed_by === by.actor)
  if (waiting.length >= maxWaiting || own.length >= maxWaitingEach) {
    const whose =
      own.length >= maxWaitingEach ? `${own.length} proposals of yours` : `${waiting.length} proposals`
    throw new PawlError('conflict', `${whose} wait already`, {
      hint: 'approve or reject some: pawl proposal list',
    })
  }
  const row: ProposalRow = {
    id: Buffer.from(context.randomBytes(9)).toString('base64url'),
    kind: proposed.kind,
    subject: proposed.subject,
    document,
    why: proposed.why,
    state: 'waiting',
    proposed_by: by.actor,
    proposed_at: now.toISOString(),
    expires_at: addSeconds(now, proposalLifetimeSeconds).toISOString(),
    decided_by: null,
    decided_at: null,
  }
  await insertProposal(tx, row)
  await change.note('change-proposed', null, facts(row))
  return viewOf(row)
}

/** Proposals, the newest first: those that wait, or all. */
export async function showProposals(
  { storage, clock }: BootContext,
  all: boolean,
  page: PageRequest,
): Promise<Listed<ProposalView>> {
  // Expired ones are marked when the next is made; until then they only look as if they waited.
  return listed(await pageOfProposals(storage.db, { ...page, waitingAt: all ? undefined : clock() }), viewOf)
}

/** Finds a proposal; throws `not-found`. */
export async function showProposal(db: Queries, id: string): Promise<ProposalView> {
  const row = await findProposal(db, id)
  if (row === undefined) throw noSuchProposal(id)
  return viewOf(row)
}

/**
 * Approves a proposal in the transaction of the change it holds. Throws `forbidden` for the person who proposed it,
 * `conflict` where it does not wait any more.
 */
export async function approveIn(change: Change, id: string): Promise<Approval> {
  const row = await lockWaiting(change, id)
  const { actor } = change.by
  if (row.proposed_by === actor) {
    throw new PawlError('forbidden', `proposal ${id} is your own`, {
      hint: 'a second person must approve it: another name, not another token of the same',
    })
  }
  await decide(change, row, 'approved')
  return { proposedBy: row.proposed_by, approvedBy: actor }
}

/** Turns a proposal down, inside a change. Who may, `approvals.ts` says. */
export async function rejectIn(change: Change, id: string): Promise<void> {
  await decide(change, await lockWaiting(change, id), 'rejected')
}

async function lockWaiting(change: Change, id: string): Promise<ProposalRow> {
  const row = await lockProposal(change.tx, change.context.storage.dialect, id)
  if (row === undefined) throw noSuchProposal(id)
  if (row.state !== 'waiting') throw new PawlError('conflict', `proposal ${id} is ${row.state} already`)
  if (Date.parse(row.expires_at) <= change.now.getTime())
    throw new PawlError('conflict', `proposal ${id} expired at ${row.expires_at}`, {
      hint: 'propose it again',
    })
  return row
}

async function decide(change: Change, row: ProposalRow, state: 'approved' | 'rejected'): Promise<void> {
  await decideProposal(change.tx, row.id, {
    state,
    decided_by: change.by.actor,
    decided_at: change.now.toISOString(),
  })
  await change.note(state === 'approved' ? 'change-approved' : 'change-rejected', null, facts(row))
}

function facts({ id, kind, subject, proposed_by, why }: ProposalRow): Record<string, unknown> {
  return { id, kind, subject, proposedBy: proposed_by, why }
}

function noSuchProposal(id: string): PawlError {
  return new PawlError('not-found', `there is no proposal ${quote(id)}`, {
    hint: 'list them with pawl proposal list',
  })
}

function viewOf(row: ProposalRow): ProposalView {
  return {
    id: row.id,
    kind: row.kind,
    subject: row.subject,
    document: JSON.parse(row.document) as ProposalView['document'], // our own column
    why: row.why,
    state: row.state,
    proposedBy: row.proposed_by,
    proposedAt: row.proposed_at,
    expiresAt: row.expires_at,
    decidedBy: row.decided_by,
    decidedAt: row.decided_at,
  }
}
