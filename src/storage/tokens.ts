import type { MintedToken, SecretHash, TokenId, TokenKind } from '../domain/token.ts'
import type { Queries, Tx } from './database.ts'
import { findSession } from './sessions.ts'
import { statement } from './statement.ts'
import type { NodeRow, SessionRow, TokenRow } from './tables.ts'

type Minted = Omit<TokenRow, 'consumed_at' | 'retired_at' | 'answer'>

const insert = statement<Minted>()((db, value) =>
  db.insertInto('tokens').values({
    id: value('id'),
    session: value('session'),
    kind: value('kind'),
    secret_hash: value('secret_hash'),
    issued_at: value('issued_at'),
    expires_at: value('expires_at'),
    ...{ consumed_at: null, retired_at: null, answer: null },
  }),
)

/** Stores the hash of a token just minted. */
export async function insertToken(
  tx: Tx,
  token: MintedToken,
  of: { session: string; kind: TokenKind; now: Date; expiresAt: Date },
): Promise<void> {
  await insert.change(tx, {
    id: token.id,
    session: of.session,
    kind: of.kind,
    secret_hash: token.hash,
    issued_at: of.now.toISOString(),
    expires_at: of.expiresAt.toISOString(),
  })
}

/** A token with the session and the node it was given to. */
export interface TokenRecord extends TokenRow {
  readonly node_id: string
  readonly node_name: string
}

const withNode = statement<{ id: string }>()((db, value) =>
  db
    .selectFrom('tokens')
    .innerJoin('sessions', 'sessions.id', 'tokens.session')
    .innerJoin('nodes', 'nodes.id', 'sessions.node')
    .selectAll('tokens')
    .select(['nodes.id as node_id', 'nodes.name as node_name'])
    // SQLite plans a join anew for each value that it is given, which costs ten times the look-up; not with a subquery.
    .where('tokens.id', '=', (e) =>
      e.selectFrom('tokens as t').select('t.id').where('t.id', '=', value('id')),
    ),
)

/** Finds a token by its name. */
export function findToken(db: Queries, id: TokenId): Promise<TokenRecord | undefined> {
  return withNode.first(db, { id })
}

const lockOwner = statement<{ id: string }>()((db, value, postgres) => {
  const query = db
    .selectFrom('nodes')
    .selectAll()
    .where('nodes.id', '=', (e) =>
      e
        .selectFrom('sessions')
        .select('sessions.node')
        .where('sessions.id', '=', (of) =>
          of.selectFrom('tokens').select('tokens.session').where('tokens.id', '=', value('id')),
        ),
    )
  return postgres ? query.forUpdate() : query
})

/** Finds the node that a token was given to, and keeps other transactions from changing it until this one ends. */
export function lockNodeOfToken(tx: Tx, id: TokenId): Promise<NodeRow | undefined> {
  return lockOwner.first(tx, { id })
}

const byId = statement<{ id: string }>()((db, value) =>
  db.selectFrom('tokens').selectAll().where('id', '=', value('id')),
)

/** A token and its session, as they are now. */
export async function findTokenAndSession(
  db: Queries,
  id: TokenId,
): Promise<{ readonly token: TokenRow; readonly session: SessionRow } | undefined> {
  const token = await byId.first(db, { id })
  const session = token === undefined ? undefined : await findSession(db, token.session)
  return token === undefined || session === undefined ? undefined : { token, session }
}

const consume = statement<{ id: string; hash: string; now: string }>()((db, value) =>
  db
    .updateTable('tokens')
    .set({ consumed_at: value('now') })
    .where('id', '=', value('id'))
    .where('secret_hash', '=', value('hash'))
    .where('consumed_at', 'is', null)
    .where('retired_at', 'is', null)
    .where('expires_at', '>', value('now')),
)

/**
 * Uses a token up: one conditional update, so that of many who try at once exactly one gets true.
 * This statement is the single use itself; every other check is for saying why not.
 */
export async function consumeToken(tx: Tx, id: TokenId, hash: SecretHash, now: Date): Promise<boolean> {
  return (await consume.change(tx, { id, hash, now: now.toISOString() })) === 1
}

const keep = statement<{ id: string; sealed: string }>()((db, value) =>
  db
    .updateTable('tokens')
    .set({ answer: value('sealed') })
    .where('id', '=', value('id')),
)

/** Keeps a redemption's sealed answer with its token. */
export async function keepAnswer(tx: Tx, id: string, sealed: string): Promise<void> {
  await keep.change(tx, { id, sealed })
}

/** Retires tokens of a session: of the kinds given, or all but those excepted. Their sealed answers are deleted. */
export async function retireTokens(
  tx: Tx,
  session: string,
  which: { kinds: readonly TokenKind[] } | { except: readonly TokenKind[] },
  now: Date,
): Promise<void> {
  const [how, kinds] = 'kinds' in which ? (['in', which.kinds] as const) : (['not in', which.except] as const)
  const key = `${how} ${kinds.join()}`
  const known = retiring.get(key) ?? retire(how, kinds)
  retiring.set(key, known)
  await known.change(tx, { session, now: now.toISOString() })
}

/** One for each list of kinds that callers name. */
const retiring = new Map<string, ReturnType<typeof retire>>()

function retire(how: 'in' | 'not in', kinds: readonly TokenKind[]) {
  return statement<{ session: string; now: string }>()((db, value) => {
    const query = db
      .updateTable('tokens')
      .set((e) => ({ retired_at: e.fn.coalesce('retired_at', e.val(value('now'))), answer: null }))
      .where('session', '=', value('session'))
    return kinds.length === 0 ? query : query.where('kind', how, kinds)
  })
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
