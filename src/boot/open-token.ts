import { Refusal, type RefusalCause } from '../domain/refusal.ts'
import {
  hashesEqual,
  hashSecret,
  type PresentedToken,
  parseToken,
  type SecretHash,
  type TokenKind,
} from '../domain/token.ts'
import { moveSession } from '../storage/sessions.ts'
import type { NodeRow, SessionRow, TokenRow } from '../storage/tables.ts'
import { lockToken } from '../storage/tokens.ts'
import { authenticateAgain } from './authenticate.ts'
import { isOverdue } from './end-session.ts'
import { type Pinned, readPinned } from './pin.ts'
import type { Asking, Work } from './work.ts'

/** A token that was found to be real, with whose it is. Whether it was used before is the caller's question. */
export interface OpenedToken {
  readonly token: TokenRow
  readonly presented: PresentedToken
  readonly hash: SecretHash
  readonly node: NodeRow
  readonly session: SessionRow
  readonly pinned: Pinned
}

/** What a caller wants of a token. */
export interface Wanted {
  readonly kind: TokenKind
  /** A report of a session that has ended is taken note of, not refused. */
  readonly evenIfEnded?: boolean
}

/**
 * Finds out whose a token is and whether it may open `kind` now: real, this node's, this stage's, not retired or
 * expired, in a live session, from a place its evidence allows. Locks the node, so nothing changes until the
 * transaction ends. Throws the Refusal that says what is wrong.
 */
export async function openToken(
  work: Work,
  asking: Asking,
  text: string | undefined,
  wanted: Wanted,
): Promise<OpenedToken> {
  const presented = readToken(text)
  const hash = hashSecret(presented.secret)
  const found = await lockToken(work.tx, presented.id)
  if (found === undefined) throw new Refusal('unknown-token')
  const { token, session, node } = found
  if (node.name !== asking.host) throw new Refusal('foreign-token', { detail: { givenTo: node.name } })
  const subject = { node: node.name, session: session.id }
  if (!hashesEqual(hash, token.secret_hash as SecretHash)) throw new Refusal('wrong-token-secret', subject)
  if (token.kind !== wanted.kind)
    throw new Refusal('wrong-order', { ...subject, detail: { tokenOpens: token.kind } })
  const fault = faultOf(work, token, session, wanted)
  if (fault !== undefined) throw new Refusal(fault, subject)
  const pinned = readPinned(session.pinned)
  const { source, certificate } = asking
  await authenticateAgain(work.tx, node, pinned.evidence, token.kind, { source, certificate, now: work.now })
  await noteMove(work, node, session, asking.source)
  return { token, presented, hash, node, session, pinned }
}

function readToken(text: string | undefined): PresentedToken {
  if (text === undefined || text === '') throw new Refusal('no-token')
  const presented = parseToken(text)
  if (presented === undefined) throw new Refusal('malformed-token')
  return presented
}

function faultOf(work: Work, token: TokenRow, session: SessionRow, wanted: Wanted): RefusalCause | undefined {
  const now = work.now
  const ended = session.ended_at !== null
  if (token.retired_at !== null) return ended ? 'session-ended' : 'retired-token'
  if (Date.parse(token.expires_at) <= now.getTime()) return 'expired-token'
  if (wanted.evenIfEnded === true) return undefined
  if (ended) return 'session-ended'
  return isOverdue(session, now, work.context.settings.sessionIdleSeconds) ? 'session-expired' : undefined
}

/** Puts on record that a session goes on from another address. */
export async function noteMove(
  work: Work,
  node: NodeRow,
  session: SessionRow,
  source: string,
): Promise<void> {
  if (session.source === source) return
  await moveSession(work.tx, session.id, source)
  await work.event({
    kind: 'address-changed',
    node: node.name,
    session: session.id,
    actor: 'node',
    source,
    detail: { before: session.source },
  })
}
