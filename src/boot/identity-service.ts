import { maxProofs, type ProfileIdentity, type Proof, proofFaults } from '../domain/identity.ts'
import type { EvidenceName, Profile } from '../domain/profile.ts'
import { Refusal, type RefusalCause } from '../domain/refusal.ts'
import { stormLabel } from '../domain/storm-label.ts'
import { isRuleApproved } from '../storage/auto-approvals.ts'
import { findProfile, readProfile } from '../storage/fleet.ts'
import { countProofs, findKeyAt, findNodeIdentity, useProof } from '../storage/node-identities.ts'
import type { NodeIdentityRow } from '../storage/node-identity-tables.ts'
import { lockNodeRow } from '../storage/nodes.ts'
import { findSession } from '../storage/sessions.ts'
import type { NodeRow, SessionRow } from '../storage/tables.ts'
import type { BootContext } from './context.ts'
import { isOverdue } from './end-session.ts'
import type { Pinned } from './pin.ts'
import { readProof } from './read-proof.ts'
import type { Asking, Work } from './work.ts'

/** What every request for an identity brings. */
export interface IdentityAsking extends Asking {
  /** The `DPoP` header, not checked yet. */
  readonly proof: string | undefined
}

const registering: ReadonlySet<string> = new Set(['stage3', 'joining'])

/** Whether a boot under way has come so far that it may have an identity: its full system runs. */
export function mayRegister({ state }: Pick<SessionRow, 'state'>): boolean {
  return registering.has(state)
}

/** The proof of a request, with all checked that needs no database. Throws a Refusal. */
export async function checkedProof(
  { clock, entries }: BootContext,
  { host = '', proof }: IdentityAsking,
  path: 'identity' | 'identity/key',
  token: string | undefined,
): Promise<Proof> {
  const urls = entries().map(({ publicUrl }) => `${publicUrl}/v1/boot/${host}/${path}`)
  const checked = await readProof(proof, { now: clock(), urls, token })
  if (typeof checked !== 'string') return checked
  throw new Refusal('identity-proof', { detail: { fault: checked, reason: proofFaults[checked] } })
}

/** Whether the key is one of this node's, looked at without a lock: who comes with a key that he has just made costs no more. */
export async function checkOwner(
  { storage }: BootContext,
  { host = '' }: Asking,
  { thumbprint }: Proof,
): Promise<void> {
  const found = await findKeyAt(storage.db, host, thumbprint)
  if (found === undefined) throw new Refusal('unknown-node')
  if (found.owner !== found.node) throw notTheirs(host, found.owner ?? undefined, thumbprint)
}

function notTheirs(node: string, owner: string | undefined, thumbprint: string): Refusal {
  return owner === undefined
    ? new Refusal('identity-unknown-key', { node })
    : new Refusal('identity-foreign-key', { node, detail: { thumbprint } })
}

/** Whose key this is, with its boot: that of this node, and the one that it is in service with, or on its way to. */
export async function ownerOf(
  work: Work,
  request: Asking,
  { thumbprint }: Proof,
): Promise<{ readonly node: NodeRow; readonly session: SessionRow; readonly row: NodeIdentityRow }> {
  const node = await lockNodeRow(work.tx, request.host ?? '')
  if (node === undefined) throw new Refusal('unknown-node')
  const row = await findNodeIdentity(work.tx, thumbprint)
  if (row?.node !== node.id) throw notTheirs(node.name, row?.node, thumbprint)
  const session = await findSession(work.tx, row.session)
  if (session === undefined) throw new Refusal('identity-unknown-key', { node: node.name })
  const fault = faultOfService(work, node, session)
  if (fault !== undefined) {
    const detail = { nodeState: node.state, state: session.state }
    throw new Refusal(fault, { node: node.name, session: session.id, detail })
  }
  return { node, session, row }
}

function faultOfService(work: Work, node: NodeRow, session: SessionRow): RefusalCause | undefined {
  if (node.state === 'disabled') return 'node-disabled'
  if (node.session !== session.id) return 'identity-other-boot'
  if (session.state === 'ready') return node.state === 'ready' ? undefined : 'identity-not-in-service'
  if (session.ended_at !== null) return 'session-ended'
  if (isOverdue(session, work.now, work.context.settings.sessionIdleSeconds)) return 'session-expired'
  return mayRegister(session) ? undefined : 'identity-not-in-service'
}

/** What the profile that the node booted by says now: who takes an audience away means the nodes that run, too. */
export async function identityOf(
  { tx }: Work,
  node: NodeRow,
  session: SessionRow,
  pinned: Pinned,
): Promise<ProfileIdentity> {
  const subject = { node: node.name, session: session.id }
  const row = await findProfile(tx, pinned.profile)
  const profile = row === undefined ? undefined : readProfile(row)
  if (profile?.identity === undefined)
    throw new Refusal('no-identity', { ...subject, detail: { profile: pinned.profile } })
  if (stormLabel in labelsIn(node)) throw new Refusal('identity-storm', subject)
  await checkProved(tx, node, profile, pinned.evidence, subject)
  return profile.identity
}

/** The rules for credentials hold, as at stage 1: the profile may have come to give identities since. */
async function checkProved(
  tx: Work['tx'],
  node: NodeRow,
  profile: Profile,
  evidence: readonly EvidenceName[],
  subject: { readonly node: string; readonly session: string },
): Promise<void> {
  if (!profile.acceptAddressOnly && evidence.every((kind) => kind === 'address'))
    throw new Refusal('identity-address-only', subject)
  if (!profile.acceptAutoApproved && (await isRuleApproved(tx, node.id)))
    throw new Refusal('approved-by-rule', subject)
}

/** The labels of a node. */
export function labelsIn(node: NodeRow): Record<string, string> {
  return JSON.parse(node.labels) as Record<string, string> // our own row
}

/** A proof is good once, whichever process it comes to; and so many of them at a time. */
export async function spend(
  { tx, now }: Work,
  subject: { readonly node: string; readonly session: string },
  { thumbprint, jti, endsAt }: Proof,
): Promise<void> {
  const proof = { thumbprint, jti, ends_at: endsAt.toISOString() }
  if (!(await useProof(tx, proof))) throw new Refusal('identity-proof-used', subject)
  if ((await countProofs(tx, thumbprint, now.toISOString())) > maxProofs)
    throw new Refusal('identity-too-often', subject)
}
