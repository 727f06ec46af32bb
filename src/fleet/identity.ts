import type { BootContext } from '../boot/context.ts'
import { identityIssuer } from '../boot/identity-configuration.ts'
import { identityKeys, identityRing } from '../boot/identity-keys.ts'
import { addKey, makeKey, publishedKeys, signingKey, tendRing } from '../boot/key-ring.ts'
import { addSeconds } from '../domain/clock.ts'
import { maxIdentitySeconds, proofKeptSeconds } from '../domain/identity.ts'
import { isPawlError, PawlError } from '../errors.ts'
import { forgetProofs, listNodeIdentities } from '../storage/node-identities.ts'
import type { NodeIdentityRow } from '../storage/node-identity-tables.ts'
import { findNode } from '../storage/nodes.ts'
import type { SigningKeyRow } from '../storage/signing-key-tables.ts'
import { type By, change, noSuchNode } from './change.ts'
import { byServer } from './operators.ts'

/** A key as operators see it. `next` is published and signs from `signsFrom` on; `old` is published until `endsAt`. */
export interface IdentityKeyView {
  readonly kid: string
  readonly state: 'next' | 'signs' | 'old'
  readonly madeAt: string
  readonly signsFrom: string
  readonly endsAt: string | null
  readonly jwk: Readonly<Record<string, unknown>>
}

/** Who says who a node is, and by which keys. */
export interface IdentityView {
  readonly issuer: string
  readonly keys: readonly IdentityKeyView[]
}

/** The key that a boot of a node registered, and what was given out for it. */
export interface NodeIdentityView {
  readonly thumbprint: string
  readonly session: string
  /** Whether it is that of the node's last boot: another is refused. */
  readonly current: boolean
  readonly type: string
  readonly registeredAt: string
  readonly issuedAt: string | null
  readonly issuedUntil: string | null
  readonly issued: number
  readonly audiences: readonly string[]
}

/** Behind the last signature of a key its documents are good for so long at most; a minute for clocks that differ. */
const keptSeconds = maxIdentitySeconds + 60

/** Shows the issuer and its keys. */
export async function showIdentity(context: BootContext): Promise<IdentityView> {
  const now = context.clock()
  const keys = publishedKeys(await identityKeys(context), now)
  const signs = signingKey(keys, now)
  return {
    issuer: identityIssuer(context),
    keys: keys.toReversed().map((row) => ({
      kid: row.kid,
      state: row === signs ? 'signs' : row.generation > (signs?.generation ?? 0) ? 'next' : 'old',
      madeAt: row.made_at,
      signsFrom: row.signs_from,
      endsAt: row.ends_at,
      jwk: JSON.parse(row.jwk) as Record<string, unknown>, // written by us
    })),
  }
}

/** Shows the keys that a node's boots registered, the last one first. Throws `not-found`. */
export async function showNodeIdentities(
  { storage: { db } }: BootContext,
  name: string,
): Promise<{ items: NodeIdentityView[] }> {
  const node = await findNode(db, name)
  if (node === undefined) throw noSuchNode(name)
  const rows = await listNodeIdentities(db, node.id)
  return { items: rows.map((row) => viewOf(row, node.session)) }
}

function viewOf(row: NodeIdentityRow, session: string | null): NodeIdentityView {
  return {
    thumbprint: row.thumbprint,
    session: row.session,
    current: row.session === session,
    type: (JSON.parse(row.jwk) as { crv: string }).crv, // written by us
    registeredAt: row.registered_at,
    issuedAt: row.issued_at,
    issuedUntil: row.issued_until,
    issued: row.issued_count,
    audiences: JSON.parse(row.audiences) as string[],
  }
}

/** How keys change. */
export interface Rotation {
  /** Somebody else may have the keys: the new one signs at once, and no document of before is good any more. */
  readonly compromised?: boolean
}

/**
 * Makes the next key. It is published at once and signs when its time comes; the one before is published until the last document
 * under it has ended. Throws `conflict` where the next one is made already.
 */
export async function rotateIdentityKey(
  context: BootContext,
  by: By,
  { compromised = false }: Rotation = {},
): Promise<IdentityView> {
  const known = await identityKeys(context)
  const [newest] = known
  const made = await makeKey(identityRing, context)
  const leadSeconds = context.settings.identity.keyLeadSeconds
  const handover = { leadSeconds, trailSeconds: keptSeconds, withdraw: compromised }
  await change(context, by, async (work) => {
    const { now, note } = work
    if (newest !== undefined && !compromised && newest.signs_from > now.toISOString())
      throw alreadyMade(newest)
    const row = await addKey(identityRing, work, made, newest, handover)
    if (row === undefined) throw new PawlError('conflict', 'another key was made at this moment')
    const changed = { before: { kid: newest?.kid ?? null }, after: { kid: row.kid } }
    if (compromised) {
      const kids = known.map(({ kid }) => kid)
      await note('identity-keys-withdrawn', null, { before: { kids }, after: { kids: [row.kid] } })
    }
    const detail = { kid: row.kid, signsFrom: row.signs_from, replaces: newest?.kid ?? null }
    await note('identity-key-made', null, { ...detail, ...changed })
  })
  return showIdentity(context)
}

function alreadyMade({ kid, signs_from }: SigningKeyRow): PawlError {
  return new PawlError('conflict', `the next key ${kid} is made already: it signs from ${signs_from} on`, {
    hint: 'wait for it; where somebody else may have the keys, withdraw them with pawl identity rotate --compromised --yes',
  })
}

/** What happens by itself: the first key, the next one when it is time, and the end of keys and used proofs that are over. */
export async function tendIdentityKeys(context: BootContext): Promise<void> {
  const { storage, clock, settings } = context
  await forgetProofs(storage.db, addSeconds(clock(), -proofKeptSeconds).toISOString())
  await identityKeys(context)
  if ((await tendRing(identityRing, context, settings.identity.keyDays)) === undefined) return
  await rotateIdentityKey(context, byServer).catch((error: unknown) => {
    if (!isPawlError(error, 'conflict')) throw error // another process was first
  })
}
