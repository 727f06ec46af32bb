import type { BootContext } from '../boot/context.ts'
import { siteScript } from '../boot/site-script.ts'
import { tokenFromRandom } from '../domain/token.ts'
import { PawlError } from '../errors.ts'
import { removeRuleApproved } from '../storage/auto-approvals.ts'
import { findProfile, readProfile } from '../storage/fleet.ts'
import { updateNode } from '../storage/nodes.ts'
import { removeClaim } from '../storage/pending.ts'
import { type By, change } from './change.ts'
import { lock } from './nodes.ts'

/** An enrolment secret just issued; shown once, only its hash is kept. */
export interface IssuedSecret {
  readonly secret: string
  /** The node's `autoexec.ipxe` with the secret in it, for its boot media. */
  readonly siteScript: string
}

/**
 * Issues a node's enrolment secret; the one before opens nothing from now on. Of a node that a rule approved, this is how an
 * operator confirms it.
 */
export function issueSecret(context: BootContext, by: By, name: string): Promise<IssuedSecret> {
  return change(context, by, async (change) => {
    const node = await lock(change, name)
    const profile = node.profile === null ? undefined : await findProfile(change.tx, node.profile)
    // Who holds the claim proved nothing but a serial number: from here on the secret alone proves the node.
    const confirms = await removeRuleApproved(change.tx, node.id)
    if (confirms) await removeClaim(change.tx, node.id)
    const token = tokenFromRandom(context.randomBytes(33))
    const script = siteScript(context, {
      host: name,
      secret: token.text,
      ...(profile === undefined ? {} : { whenServerAbsent: readProfile(profile).whenServerAbsent }),
    })
    await updateNode(change.tx, node.id, {
      secret_id: token.id,
      secret_hash: token.hash,
      updated_at: change.now.toISOString(),
    })
    await change.note('secret-issued', name, {
      id: token.id,
      replaces: node.secret_id,
      ...(confirms ? { confirms } : {}),
    })
    return { secret: token.text, siteScript: script }
  })
}

/**
 * Revokes a node's enrolment secret: media that carries it is refused. So is the claim that stands in for it until the first
 * boot after an approval. Throws `not-found` where there is neither.
 */
export function revokeSecret(context: BootContext, by: By, name: string): Promise<void> {
  return change(context, by, async (change) => {
    const node = await lock(change, name)
    const claim = await removeClaim(change.tx, node.id)
    if (node.secret_id === null && !claim) {
      throw new PawlError('not-found', `node "${name}" has no enrolment secret`, {
        hint: `issue one with pawl node secret ${name}`,
      })
    }
    await updateNode(change.tx, node.id, {
      secret_id: null,
      secret_hash: null,
      updated_at: change.now.toISOString(),
    })
    await change.note('secret-revoked', name, { id: node.secret_id, claim })
  })
}
