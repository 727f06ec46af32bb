import { addSeconds } from '../domain/clock.ts'
import type { EventKind } from '../domain/event.ts'
import type { EvidenceName, Profile } from '../domain/profile.ts'
import { Refusal } from '../domain/refusal.ts'
import { secretState } from '../domain/secret.ts'
import { parseToken, tokenFromRandom } from '../domain/token.ts'
import { updateNode } from '../storage/nodes.ts'
import type { NodeSecretRow } from '../storage/secret-tables.ts'
import {
  endSecrets,
  findSecret,
  forgetEnded,
  insertSecret,
  listOpenSecrets,
  updateSecret,
} from '../storage/secrets.ts'
import type { NodeRow } from '../storage/tables.ts'
import type { Proven } from './authenticate.ts'
import type { BootContext } from './context.ts'
import { type OpenedToken, openToken } from './open-token.ts'
import type { UsedSecret } from './pin.ts'
import { ownWords } from './report.ts'
import { type Asking, inTransaction, recordingRefusals, type Work } from './work.ts'

/**
 * How a node's secret rotates. What is on its medium at any moment must open stage 1, wherever the power goes:
 *
 * 1. Stage 3 is redeemed: a new secret is stored, as hash, beside the current one, and handed out in the sealed answer. A server
 *    or a node that dies now: the medium has the current one.
 * 2. The agent writes it beside the old file, syncs, renames, syncs. A node that dies in the middle has one or the other: both open.
 * 3. It says so to the server. This moves nothing: it is for operators. That it never arrives does no harm.
 * 4. The next stage 1 comes with the new one: it is the current one from now on, and every other one ends, `rotated-out`.
 *
 * A boot that comes with the old one again is given another new one. What was given before stays good as well: the medium that
 * has it may be the node's own, and the one that came a copy. The first of them that is used ends all others.
 */

/** So many may wait to be used: each is a boot that came with the old one all the same. */
const maxPending = 4

/**
 * Takes note of the secret that the machine came with, where `authenticate` has found it right (`required` is what it looked at,
 * `proven` what it found): one that was to take the current one's place has it now. Returns the node as it is then, and the secret.
 */
export async function useSecret(
  work: Work,
  node: NodeRow,
  { profile, required, proven }: UseOf,
  { secret, source }: { readonly secret?: string | undefined; readonly source: string },
): Promise<{ readonly node: NodeRow; readonly used?: UsedSecret }> {
  const presented = secret === undefined || !required.includes('secret') ? undefined : parseToken(secret)
  if (presented === undefined) return { node } // a claim stood in for it, or nobody looked at it
  const { tx, now } = work
  const row = proven.secret ?? (await adopt(work, node, presented.id))
  await updateSecret(tx, row, { last_used_at: now.toISOString(), last_used_from: source })
  const used = { id: row.id, rotates: row.kind === 'rotating' || profile.secrets === 'rotating' }
  if (row.id === node.secret_id) return { node, used }
  const current = { secret_id: row.id, secret_hash: row.secret_hash }
  await updateNode(tx, node.id, current)
  await endSecrets(tx, node.id, 'rotated-out', now, row.id)
  await note(work, 'secret-rotated', node, row.session, source, { secret: row.id, replaces: row.replaces })
  return { node: { ...node, ...current }, used }
}

interface UseOf {
  readonly profile: Profile
  readonly required: readonly EvidenceName[]
  readonly proven: Proven
}

/** A row for a current secret that has none: a replica of the release before issued it. */
async function adopt({ tx, now }: Work, node: NodeRow, id: string): Promise<NodeSecretRow> {
  const row: NodeSecretRow = {
    ...freshSecret,
    id,
    node: node.id,
    secret_hash: node.secret_hash ?? '', // it was compared with this a moment ago
    issued_at: now.toISOString(),
    issued_by: 'operator:before',
  }
  await insertSecret(tx, row)
  return row
}

/** What a secret begins with. */
export const freshSecret = {
  kind: 'static',
  replaces: null,
  session: null,
  lifetime_seconds: null,
  expires_at: null,
  written_at: null,
  fault: null,
  warned_at: null,
  last_used_at: null,
  last_used_from: null,
  ended: null,
  ended_at: null,
} as const satisfies Partial<NodeSecretRow>

/** What stage 3 answers where the secret rotates; its one place outside the node's own memory and medium. */
export interface OfferedSecret {
  /** Names the new secret in what the agent says of it. */
  readonly id: string
  readonly secret: string
  /** The secret that the medium has, by name: the agent writes to no other medium. */
  readonly replaces: string
}

/** Makes the secret that is to take the place of the one this boot came with. None where an operator has issued another since. */
export async function offerSecret(
  work: Work,
  { node, session, pinned }: OpenedToken,
  source: string,
): Promise<OfferedSecret | undefined> {
  const { tx, now, context } = work
  const used = pinned.secret
  if (used?.rotates !== true || node.secret_id !== used.id) return undefined
  const current = await findSecret(tx, node.id, used.id)
  if (current === undefined) return undefined
  await makeRoom(work, node)
  const token = tokenFromRandom(context.randomBytes(33))
  const lifetime = current.lifetime_seconds
  await insertSecret(tx, {
    ...freshSecret,
    id: token.id,
    node: node.id,
    secret_hash: token.hash,
    kind: current.kind,
    issued_at: now.toISOString(),
    issued_by: 'server',
    replaces: used.id,
    session: session.id,
    lifetime_seconds: lifetime,
    expires_at: lifetime === null ? null : addSeconds(now, lifetime).toISOString(),
  })
  await note(work, 'secret-offered', node, session.id, source, { secret: token.id, replaces: used.id })
  return { id: token.id, secret: token.text, replaces: used.id }
}

/** What was never said to be on a medium makes room first. */
async function makeRoom({ tx, now }: Work, node: NodeRow): Promise<void> {
  const pending = (await listOpenSecrets(tx, node.id)).filter((row) => row.id !== node.secret_id)
  const leaving = pending.findLast((row) => row.written_at === null) ?? pending.at(-1)
  if (pending.length < maxPending || leaving === undefined) return
  await updateSecret(tx, leaving, { ended: 'rotated-out', ended_at: now.toISOString() })
  await forgetEnded(tx, node.id) // a medium that cannot be written to: nothing else ends at any of its boots
}

/** What the agent says of the new secret: that it is on the medium, or why not. */
export interface SecretWritten extends Asking {
  readonly token: string | undefined
  /** The new secret, by name. */
  readonly id: string
  readonly written: boolean
  readonly reason: string
}

const secretId = /^[A-Za-z0-9_-]{12}$/

/** Takes what the agent says, under its report token; said again it changes nothing. Throws a Refusal. */
export function confirmSecret(context: BootContext, request: SecretWritten): Promise<void> {
  return recordingRefusals(context, request, () =>
    inTransaction(context, async (work) => {
      const { node, session } = await openToken(work, request, request.token, { kind: 'report' })
      // A database is not asked for what it cannot hold: PostgreSQL takes no NUL.
      const row = secretId.test(request.id) ? await findSecret(work.tx, node.id, request.id) : undefined
      const subject = { node: node.name, session: session.id }
      if (row === undefined || row.session !== session.id) throw new Refusal('no-such-rotation', subject)
      const state = secretState(row, node.secret_id, work.now)
      if (state === 'replaced' || state === 'revoked')
        throw new Refusal(`secret-${state}`, { ...subject, detail: { secret: row.id } })
      if (row.written_at !== null || (!request.written && row.fault !== null)) return
      if (request.written) {
        await updateSecret(work.tx, row, { written_at: work.now.toISOString(), fault: null })
        await note(work, 'secret-written', node, session.id, request.source, { secret: row.id })
        return
      }
      const reason = ownWords(request.reason).slice(0, 300)
      await updateSecret(work.tx, row, { fault: reason })
      await note(work, 'secret-not-written', node, session.id, request.source, { secret: row.id, reason })
    }),
  )
}

function note(
  work: Work,
  kind: EventKind,
  node: NodeRow,
  session: string | null,
  source: string,
  detail: Record<string, unknown>,
): Promise<void> {
  return work.event({ kind, node: node.name, session, actor: 'node', source, detail })
}
