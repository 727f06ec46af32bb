import type { MintedToken, SecretHash, TokenId, TokenKind } from '../domain/token.ts'
import type { Queries, Tx } from './database.ts'
import type { TokenRow } from './tables.ts'

/** Stores the hash of a token just minted. */
export async function insertToken(
  tx: Tx,
  token: MintedToken,
  of: { session: string; kind: TokenKind; now: Date; expiresAt: Date },
): Promise<void> {
  const row: TokenRow = {
    id: token.id,
    session: of.session,
    kind: of.kind,
    secret_hash: token.hash,
    issued_at: of.now.toISOString(),
    expires_at: of.expiresAt.toISOString(),
    consumed_at: null,
    retired_at: null,
    answer: null,
  }
  await tx.insertInto('tokens').values(row).execute()
}

/** A token with the session and the node it was given to. */
export interface TokenRecord extends TokenRow {
  readonly node_id: string
  readonly node_name: string
}

/** Finds a token by its name. */
export function findToken(db: Queries, id: TokenId): Promise<TokenRecord | undefined> {
  return db
    .selectFrom('tokens')
    .innerJoin('sessions', 'sessions.id', 'tokens.session')
    .innerJoin('nodes', 'nodes.id', 'sessions.node')
    .selectAll('tokens')
    .select(['nodes.id as node_id', 'nodes.name as node_name'])
    .where('tokens.id', '=', id)
    .executeTakeFirst()
}

/**
 * Uses a token up: one conditional update, so that of many who try at once exactly one gets true.
 * This statement is the single use itself; every other check is for saying why not.
 */
export async function consumeToken(tx: Tx, id: TokenId, hash: SecretHash, now: Date): Promise<boolean> {
  const result = await tx
    .updateTable('tokens')
    .set({ consumed_at: now.toISOString() })
    .where('id', '=', id)
    .where('secret_hash', '=', hash)
    .where('consumed_at', 'is', null)
    .where('retired_at', 'is', null)
    .where('expires_at', '>', now.toISOString())
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** Keeps a redemption's sealed answer with its token. */
export async function keepAnswer(tx: Tx, id: string, sealed: string): Promise<void> {
  await tx.updateTable('tokens').set({ answer: sealed }).where('id', '=', id).execute()
}

/** Retires tokens of a session: of the kinds given, or all but those excepted. Their sealed answers are deleted. */
export async function retireTokens(
  tx: Tx,
  session: string,
  which: { kinds: readonly TokenKind[] } | { except: readonly TokenKind[] },
  now: Date,
): Promise<void> {
  let query = tx
    .updateTable('tokens')
    .set((e) => ({ retired_at: e.fn.coalesce('retired_at', e.val(now.toISOString())), answer: null }))
    .where('session', '=', session)
  if ('kinds' in which) query = query.where('kind', 'in', which.kinds)
  else if (which.except.length > 0) query = query.where('kind', 'not in', which.except)
  await query.execute()
}

/** Marks a token as used where it is not yet: for `tokens: epoxy`, when the next stage begins. */
export async function markConsumed(tx: Tx, session: string, kind: TokenKind, now: Date): Promise<void> {
  await tx
    .updateTable('tokens')
    .set({ consumed_at: now.toISOString() })
    .where('session', '=', session)
    .where('kind', '=', kind)
    .where('consumed_at', 'is', null)
    .execute()
}
