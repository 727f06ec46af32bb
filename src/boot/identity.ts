import {
  type IdentityClaims,
  maxIdentitySeconds,
  type ProfileIdentity,
  type Proof,
} from '../domain/identity.ts'
import { Refusal } from '../domain/refusal.ts'
import { updateNodeIdentity } from '../storage/node-identities.ts'
import type { NodeIdentityRow } from '../storage/node-identity-tables.ts'
import type { NodeRow } from '../storage/tables.ts'
import type { BootContext } from './context.ts'
import { openIdentitySigner } from './identity-keys.ts'
import {
  checkedProof,
  checkOwner,
  type IdentityAsking,
  identityOf,
  labelsIn,
  ownerOf,
  spend,
} from './identity-service.ts'
import { type Pinned, readPinned } from './pin.ts'
import { inTransaction, recordingRefusals, type Work } from './work.ts'

/**
 * How a node gets an identity, and keeps it:
 *
 * 1. In stage 3 its agent makes a key, and registers it: once in a boot, under the report token, with a proof that it has the key.
 * 2. From then on a proof is all it needs to be given a document: while the boot is under way, and for as long as that boot is
 *    the node's last one, and the node is ready. A proof is good once, in all processes.
 * 3. The next boot has another key. The one before is worth nothing from its stage 1 on, as it is once the node is disabled.
 *
 * Proofs are checked and documents are signed outside of the transaction: within it nothing waits on anything but the database. A key
 * that is not the node's is refused before: anybody can make one, and a proof that fits it.
 */

/** Asks for a document. */
export interface IdentityRequest extends IdentityAsking {
  /** For whom; may be left out where the profile names one. */
  readonly audience: string | undefined
}

/** Gives a node a document, or another one, for a proof that it has the key of its boot. Returns the answer. */
export function issueIdentity(context: BootContext, request: IdentityRequest): Promise<string> {
  return recordingRefusals(context, request, async () => {
    const proof = await checkedProof(context, request, 'identity', undefined)
    await checkOwner(context, request, proof)
    const sign = await openIdentitySigner(context) // before anything is spent
    const { claims, renewInSeconds } = await inTransaction(context, (work) => claim(work, request, proof))
    const token = await sign(claims)
    context.meter?.identified()
    return JSON.stringify({
      token,
      audience: claims.aud,
      expiresAt: new Date(claims.exp * 1000).toISOString(),
      renewInSeconds,
    })
  })
}

async function claim(
  work: Work,
  request: IdentityRequest,
  proof: Proof,
): Promise<{ readonly claims: IdentityClaims; readonly renewInSeconds: number }> {
  const { node, session, row } = await ownerOf(work, request, proof)
  const subject = { node: node.name, session: session.id }
  const pinned = readPinned(session.pinned)
  const identity = await identityOf(work, node, session, pinned)
  const aud = audienceOf(identity, request.audience)
  if (aud === undefined) {
    const asked = request.audience?.slice(0, 255) ?? null
    throw new Refusal('identity-audience', { ...subject, detail: { audience: asked } })
  }
  await spend(work, subject, proof)
  const { issuer, seconds: usual, overlapSeconds } = work.context.settings.identity
  const seconds = Math.min(identity.lifetimeSeconds ?? usual, maxIdentitySeconds)
  const iat = Math.floor(work.now.getTime() / 1000)
  const exp = iat + seconds
  await noteIssued(work, row, { node: node.name, source: request.source, aud, exp })
  return {
    claims: {
      iss: issuer ?? work.context.settings.publicUrl,
      sub: `node:${node.name}`,
      ...{ aud, iat, exp },
      jti: Buffer.from(work.context.randomBytes(16)).toString('base64url'),
      node: node.name,
      session: session.id,
      sequence: session.sequence,
      profile: pinned.profile,
      image: pinned.images?.stage3.ref ?? '',
      image_digest: pinned.images?.stage3.digest ?? '',
      evidence: evidenceOf(pinned),
      labels: labelsOf(node, identity),
      cnf: { jkt: proof.thumbprint },
    },
    renewInSeconds: seconds - Math.min(overlapSeconds, Math.floor(seconds / 2)),
  }
}

function audienceOf({ audiences }: ProfileIdentity, asked: string | undefined): string | undefined {
  if (asked === undefined) return audiences.length === 1 ? audiences[0] : undefined
  return audiences.includes(asked) ? asked : undefined
}

function evidenceOf({ evidence, secret }: Pinned): string[] {
  return evidence.map((kind) => (kind === 'secret' && secret === undefined ? 'claim' : kind))
}

function labelsOf(node: NodeRow, { labels = [] }: ProfileIdentity): Record<string, string> {
  const all = labelsIn(node)
  return Object.fromEntries(labels.flatMap((name) => (all[name] === undefined ? [] : [[name, all[name]]])))
}

/** The first document for an audience is an event, the others are counted: a node renews for as long as it runs. */
async function noteIssued(
  work: Work,
  row: NodeIdentityRow,
  { node, source, aud, exp }: { node: string; source: string; aud: string; exp: number },
): Promise<void> {
  const audiences = JSON.parse(row.audiences) as string[] // our own row
  const isFirst = !audiences.includes(aud)
  const until = new Date(exp * 1000).toISOString()
  await updateNodeIdentity(work.tx, row.thumbprint, {
    issued_at: work.now.toISOString(),
    issued_until: row.issued_until === null || row.issued_until < until ? until : row.issued_until,
    issued_count: row.issued_count + 1,
    audiences: isFirst ? JSON.stringify([...audiences, aud]) : row.audiences,
  })
  if (!isFirst) return
  const detail = { audience: aud, thumbprint: row.thumbprint, until }
  await work.event({
    kind: 'identity-issued',
    ...{ node, session: row.session, actor: 'node', source, detail },
  })
}
