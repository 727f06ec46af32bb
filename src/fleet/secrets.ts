import type { BootContext } from '../boot/context.ts'
import { freshSecret } from '../boot/rotate-secret.ts'
import { siteScript } from '../boot/site-script.ts'
import { inTransaction } from '../boot/work.ts'
import { addSeconds } from '../domain/clock.ts'
import type { Profile } from '../domain/profile.ts'
import type { SecretKind } from '../domain/secret.ts'
import { tokenFromRandom } from '../domain/token.ts'
import { PawlError } from '../errors.ts'
import { removeRuleApproved } from '../storage/auto-approvals.ts'
import { findProfile, readProfile } from '../storage/fleet.ts'
import { lockNode, updateNode } from '../storage/nodes.ts'
import { removeClaim } from '../storage/pending.ts'
import { endSecrets, findSecret, insertSecret, listExpiring, updateSecret } from '../storage/secrets.ts'
import { type By, change } from './change.ts'
import { lock } from './nodes.ts'

/** How an enrolment secret is to be. */
export interface SecretWish {
  /** Default: static. Where the profile says `secrets: rotating`, a static one rotates too. */
  readonly kind?: SecretKind
  /** How long it is good for, and each that takes its place; left out: for ever. */
  readonly lifetimeSeconds?: number
}

/** An enrolment secret just issued; shown once, only its hash is kept. */
export interface IssuedSecret {
  readonly secret: string
  /** The node's `autoexec.ipxe` with the secret in it, for its boot media. */
  readonly siteScript: string
  readonly kind: SecretKind
  readonly expiresAt: string | null
  /** What the operator should know about it. */
  readonly warnings: readonly string[]
}

/**
 * Issues a node's enrolment secret; the one before opens nothing from now on, nor does one that the node was given to take its
 * place. Of a node that a rule approved, this is how an operator confirms it.
 */
export function issueSecret(
  context: BootContext,
  by: By,
  name: string,
  wish: SecretWish = {},
): Promise<IssuedSecret> {
  const { kind = 'static', lifetimeSeconds = null } = wish
  return change(context, by, async (change) => {
    const node = await lock(change, name)
    const row = node.profile === null ? undefined : await findProfile(change.tx, node.profile)
    const profile = row === undefined ? undefined : readProfile(row)
    // Who holds the claim proved nothing but a serial number: from here on the secret alone proves the node.
    const confirms = await removeRuleApproved(change.tx, node.id)
    if (confirms) await removeClaim(change.tx, node.id)
    const token = tokenFromRandom(context.randomBytes(33))
    const script = siteScript(context, {
      host: name,
      secret: token.text,
      ...(profile === undefined ? {} : { whenServerAbsent: profile.whenServerAbsent }),
    })
    const at = change.now.toISOString()
    const expiresAt = lifetimeSeconds === null ? null : addSeconds(change.now, lifetimeSeconds).toISOString()
    await endSecrets(change.tx, node.id, 'replaced', change.now)
    await insertSecret(change.tx, {
      ...freshSecret,
      id: token.id,
      node: node.id,
      secret_hash: token.hash,
      kind,
      issued_at: at,
      issued_by: by.actor,
      lifetime_seconds: lifetimeSeconds,
      expires_at: expiresAt,
    })
    await updateNode(change.tx, node.id, { secret_id: token.id, secret_hash: token.hash, updated_at: at })
    await change.note('secret-issued', name, {
      id: token.id,
      replaces: node.secret_id,
      kind,
      expiresAt,
      ...(confirms ? { confirms } : {}),
    })
    const warnings = warningsOf(name, kind, profile)
    return { secret: token.text, siteScript: script, kind, expiresAt, warnings }
  })
}

function warningsOf(name: string, kind: SecretKind, profile: Profile | undefined): string[] {
  if (profile === undefined) return []
  const { boot, reinstall } = profile.evidence
  const looked = boot.includes('secret') || reinstall.includes('secret')
  return [
    ...(looked ? [] : [`profile "${profile.name}" of node "${name}" does not require a secret as evidence`]),
    ...(kind === 'rotating' && profile.tokens === 'epoxy'
      ? [`profile "${profile.name}" has "tokens: epoxy", whose clients write no secret: it will not rotate`]
      : []),
  ]
}

/**
 * Revokes a node's enrolment secret: media that carries it is refused, and so is one that the node was given to take its place.
 * So is the claim that stands in for it until the first boot after an approval. Throws `not-found` where there is neither.
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
    await endSecrets(change.tx, node.id, 'revoked', change.now)
    await updateNode(change.tx, node.id, {
      secret_id: null,
      secret_hash: null,
      updated_at: change.now.toISOString(),
    })
    await change.note('secret-revoked', name, { id: node.secret_id, claim })
  })
}

/**
 * So long before its end a secret is told of: time to make new media, and to take them to where the machine is. Of one that is
 * good for weeks only a fifth of its life: one that rotates would else be called late at each boot.
 */
const warnedAheadSeconds = 14 * 86_400
const warnedAheadShare = 5
const toldAtOnce = 100
const lookedAt = 10 * toldAtOnce

/** Tells once of each current secret that runs out soon, or that has: its node cannot boot then. */
export async function warnOfExpiry(context: BootContext): Promise<void> {
  const now = context.clock()
  const until = addSeconds(now, warnedAheadSeconds)
  // The first to end come first: those that are not to be told of yet keep nobody waiting for long.
  const due = (await listExpiring(context.storage.db, until, lookedAt)).filter(
    ({ expires_at: end, lifetime_seconds: life }) =>
      Date.parse(end ?? '') - now.getTime() <= ((life ?? 0) * 1000) / warnedAheadShare ||
      (life ?? 0) >= warnedAheadSeconds * warnedAheadShare,
  )
  for (const { id, nodeName } of due.slice(0, toldAtOnce)) {
    await inTransaction(context, async (work) => {
      const node = await lockNode(work.tx, context.storage.dialect, nodeName)
      if (node?.secret_id !== id) return // another has taken its place a moment ago
      const row = await findSecret(work.tx, node.id, id)
      if (row === undefined || row.warned_at !== null) return // another replica was first
      await updateSecret(work.tx, row, { warned_at: work.now.toISOString() })
      await work.event({
        kind: 'secret-expiring',
        node: nodeName,
        session: null,
        actor: 'server',
        source: null,
        detail: { secret: id, expiresAt: row.expires_at },
      })
    })
  }
}
