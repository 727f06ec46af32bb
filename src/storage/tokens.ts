import { type RawBuilder, sql } from 'kysely'
import type { MintedToken, TokenId, TokenKind } from '../domain/token.ts'
import type { Queries, Tx } from './database.ts'
import { sessionColumns } from './sessions.ts'
import { perKey, statement } from './statement.ts'
import type { NodeRow, SessionRow, TokenRow } from './tables.ts'

/** A token just minted, to be stored: its hash, never its secret. */
export interface NewToken extends Pick<MintedToken, 'id' | 'hash'> {
  readonly session: string
  readonly kind: TokenKind
  readonly now: Date
  readonly expiresAt: Date
}

/** Stores tokens just minted, in one statement. */
export async function insertTokens(tx: Tx, tokens: readonly NewToken[]): Promise<void> {
  if (tokens.length === 0) return
  await inserting(tokens.length).change(tx, rowsOf(tokens))
}

const inserting = perKey((count: number) =>
  statement<TokenValues>()((_db, value) => insertedTokens(count, value)),
)

/** The values of so many tokens, each under its number. */
export type TokenValues = Readonly<Record<`${keyof Minted & string}${number}`, string>>

const mintedColumns = ['id', 'session', 'kind', 'secret_hash', 'issued_at', 'expires_at'] as const
type Minted = Pick<TokenRow, (typeof mintedColumns)[number]>

/** The text of the statement that stores so many tokens. */
export function insertedTokens(
  count: number,
  value: (name: keyof TokenValues) => string,
): RawBuilder<unknown> {
  const rows = Array.from(
    { length: count },
    (_, at) => sql`(${sql.join(mintedColumns.map((name) => value(`${name}${at}`)))})`,
  )
  return sql`insert into tokens (${sql.raw(mintedColumns.join())}) values ${sql.join(rows)}`
}

/** Tokens as the values of that statement. */
export function rowsOf(tokens: readonly NewToken[]): TokenValues {
  const values: Record<string, string> = {}
  for (const [at, { id, session, kind, hash, now, expiresAt }] of tokens.entries()) {
    values[`id${at}`] = id
    values[`session${at}`] = session
    values[`kind${at}`] = kind
    values[`secret_hash${at}`] = hash
    values[`issued_at${at}`] = now.toISOString()
    values[`expires_at${at}`] = expiresAt.toISOString()
  }
  return values
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
    .where('tokens.id', '=', value('id')),
)

/** Finds a token by its name. */
export function findToken(db: Queries, id: TokenId): Promise<TokenRecord | undefined> {
  return withNode.first(db, { id })
}

/** A token with the session and the node that it was given to. */
export interface TokenFound {
  readonly token: TokenRow
  readonly session: SessionRow
  readonly node: NodeRow
}

/** A column that is not here does not compile. */
const tokenColumns = Object.keys({
  ...{ id: true, session: true, kind: true, secret_hash: true, issued_at: true, expires_at: true },
  ...{ consumed_at: true, retired_at: true, answer: true },
} satisfies Record<keyof TokenRow, true>)

const locking = statement<{ id: string }>()((db, value, postgres) => {
  const query = db
    .selectFrom('nodes')
    .innerJoin('sessions', 'sessions.node', 'nodes.id')
    .innerJoin('tokens', 'tokens.session', 'sessions.id')
    .selectAll('nodes')
    .select(sessionColumns.map((name) => sql.ref(`sessions.${name}`).as(`session ${name}`)))
    .select(tokenColumns.map((name) => sql.ref(`tokens.${name}`).as(`token ${name}`)))
    .where('tokens.id', '=', value('id'))
  return postgres ? query.forUpdate('nodes').forNoKeyUpdate(['sessions', 'tokens']) : query
})

/**
 * Finds a token, its session and its node as they are now, and keeps other transactions from changing them until this one ends.
 * PostgreSQL waits for the node first, as everything that changes a boot does; of what it locked it then shows the rows as they
 * have become meanwhile, so that a token used a moment ago is seen as used.
 */
export async function lockToken(tx: Tx, id: TokenId): Promise<TokenFound | undefined> {
  const row = (await locking.first(tx, { id })) as Record<string, unknown> | undefined
  if (row === undefined) return undefined
  const found = { token: {}, session: {}, node: {} } as Record<Joined, Record<string, unknown>>
  for (const name in row) {
    const { table, column } = ofJoined.get(name) ?? { table: 'node', column: name }
    found[table][column] = row[name]
  }
  return found as unknown as TokenFound // all columns of the three
}

type Joined = keyof TokenFound

/** Where the columns of the joined row belong that are not the node's. A name that is put together for each costs more than the look-up. */
const ofJoined: ReadonlyMap<string, { readonly table: Joined; readonly column: string }> = new Map(
  (
    [
      ['session', sessionColumns],
      ['token', tokenColumns],
    ] as const
  ).flatMap(([table, columns]) =>
    columns.map((column) => [`${table} ${column}`, { table, column }] as const),
  ),
)

/** Which tokens of a session: those of the kinds given, or all but those excepted. */
export type WhichTokens = { readonly kinds: readonly TokenKind[] } | { readonly except: readonly TokenKind[] }

/** Retires tokens of a session. Their sealed answers are deleted. */
export async function retireTokens(tx: Tx, session: string, which: WhichTokens, now: Date): Promise<void> {
  await retiring(which).change(tx, { session, now: now.toISOString() })
}

/** One for each list of kinds that callers name. */
const retiring = perKey((which: WhichTokens) =>
  statement<{ session: string; now: string }>()((_db, value) => retiredTokens(which, value)),
)

/** The text of the statement that retires them. Those that are retired already are not written once more. */
export function retiredTokens(
  which: WhichTokens,
  value: (name: 'session' | 'now') => string,
): RawBuilder<unknown> {
  const [how, kinds] = 'kinds' in which ? ['in', which.kinds] : ['not in', which.except]
  const among = kinds.length === 0 ? sql`` : sql` and kind ${sql.raw(how)} (${sql.join(kinds.map(sql.lit))})`
  return sql`update tokens set retired_at = coalesce(retired_at, ${value('now')}), answer = null
    where session = ${value('session')}${among} and (retired_at is null or answer is not null)`
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
