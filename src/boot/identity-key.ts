import type { Proof } from '../domain/identity.ts'
import { Refusal } from '../domain/refusal.ts'
import {
  addNodeIdentity,
  findNodeIdentity,
  findSessionIdentity,
  updateNodeIdentity,
} from '../storage/node-identities.ts'
import type { NodeIdentityRow } from '../storage/node-identity-tables.ts'
import type { NodeRow, SessionRow } from '../storage/tables.ts'
import type { BootContext } from './context.ts'
import { checkedProof, type IdentityAsking, identityOf, mayRegister, spend } from './identity-service.ts'
import { openToken } from './open-token.ts'
import { inTransaction, recordingRefusals, type Work } from './work.ts'

/** Registers the key of a boot. */
export interface KeyRegistration extends IdentityAsking {
  readonly token: string | undefined
}

/** Registers the key that a node made, under its report token. The same key again changes nothing. Returns the answer. */
export function registerKey(context: BootContext, request: KeyRegistration): Promise<string> {
  return recordingRefusals(context, request, async () => {
    const proof = await checkedProof(context, request, 'identity/key', request.token)
    return inTransaction(context, async (work) => {
      const { node, session, pinned } = await openToken(work, request, request.token, { kind: 'report' })
      const subject = { node: node.name, session: session.id }
      if (!mayRegister(session))
        throw new Refusal('wrong-order', { ...subject, detail: { state: session.state } })
      const identity = await identityOf(work, node, session, pinned)
      await keepKey(work, node, session, proof, request.source)
      await spend(work, subject, proof)
      return JSON.stringify({
        session: session.id,
        thumbprint: proof.thumbprint,
        audiences: identity.audiences,
      })
    })
  })
}

async function keepKey(
  work: Work,
  node: NodeRow,
  session: SessionRow,
  { thumbprint, jwk }: Proof,
  source: string,
): Promise<void> {
  const subject = { node: node.name, session: session.id }
  const known = await findSessionIdentity(work.tx, session.id)
  if (known?.thumbprint === thumbprint) return // the answer was lost
  if (known !== undefined) throw new Refusal('identity-other-key', subject)
  const row: NodeIdentityRow = {
    thumbprint,
    node: node.id,
    session: session.id,
    jwk: JSON.stringify(jwk),
    registered_at: work.now.toISOString(),
    issued_at: null,
    issued_until: null,
    issued_count: 0,
    audiences: '[]',
  }
  if (!(await addNodeIdentity(work.tx, row))) {
    // A key that stays in a machine, in its TPM, goes on to its next boot. It goes to no other node.
    const other = await findNodeIdentity(work.tx, thumbprint)
    if (other?.node !== node.id)
      throw new Refusal('identity-foreign-key', { ...subject, detail: { thumbprint } })
    const { thumbprint: _same, node: _own, ...changes } = row
    await updateNodeIdentity(work.tx, thumbprint, changes)
  }
  await work.event({
    kind: 'identity-key-registered',
    ...subject,
    actor: 'node',
    source,
    detail: { thumbprint, type: jwk.crv },
  })
}
