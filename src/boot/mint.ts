import { addSeconds } from '../domain/clock.ts'
import { namedInOrder } from '../domain/locality.ts'
import { type TokenKind, tokenFromRandom } from '../domain/token.ts'
import type { SessionRow } from '../storage/tables.ts'
import type { Work } from './work.ts'

/** Mints a token of a session; returns its text, which only the node will have. Its hash is stored with what is written next. */
export function mint(
  work: Work,
  session: Pick<SessionRow, 'id' | 'tokens' | 'expires_at'>,
  kind: TokenKind,
): string {
  const { context, now } = work
  const { id, hash, text } = tokenFromRandom(namedInOrder(context.randomBytes(33), now))
  work.minted.push({ id, hash, session: session.id, kind, now, expiresAt: expiry(work, session, kind) })
  work.afterCommit(() => context.meter?.issued(kind))
  return text
}

function expiry(work: Work, session: Pick<SessionRow, 'tokens' | 'expires_at'>, kind: TokenKind): Date {
  const { settings } = work.context
  // A capability lasts as long as its stage, which is retired by the next redemption; the session's end is the last limit.
  if (kind.startsWith('download-')) return new Date(session.expires_at)
  if (kind === 'report') return addSeconds(work.now, settings.reportTokenLifetimeSeconds)
  return addSeconds(
    work.now,
    session.tokens === 'epoxy' ? settings.epoxyTokenLifetimeSeconds : settings.tokenLifetimeSeconds,
  )
}
