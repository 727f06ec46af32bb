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

const joined = (db: Queries, id: string) =>
  db
    .selectFrom('nodes')
    .innerJoin('sessions', 'sessions.node', 'nodes.id')
    .innerJoin('tokens', 'tokens.session', 'sessions.id')
    .selectAll('nodes')
    .select(sessionColumns.map((name) => sql.ref(`sessions.${name}`).as(`session ${name}`)))
    .select(tokenColumns.map((name) => sql.ref(`tokens.${name}`).as(`token ${name}`)))
    .where('tokens.id', '=', id)

const reading = statement<{ id: string }>()((db, value) => joined(db, value('id')))
const locking = statement<{ id: string }>()((db, value, postgres) => {
  const query = joined(db, value('id'))
  return postgres ? query.forUpdate('nodes').forNoKeyUpdate(['sessions', 'tokens']) : query
})

/** Finds a token, its session and its node as they are now. */
export async function findToken(db: Queries, id: TokenId): Promise<TokenFound | undefined> {
  return takenApart(await reading.first(db, { id }))
}

/**
 * Finds a token, its session and its node as they are now, and keeps other transactions from changing them until this one ends.
 * PostgreSQL waits for the node first, as everything that changes a boot does; of what it locked it then shows the rows as they
 * have become meanwhile, so that a token used a moment ago is seen as used.
 */
export async function lockToken(tx: Tx, id: TokenId): Promise<TokenFound | undefined> {
  return takenApart(await locking.first(tx, { id }))
}

function takenApart(row: NodeRow | undefined): TokenFound | undefined {
  if (row === undefined) return undefined
  const all = row as Joined // it has the columns of all three
  return { token: tokenOf(all), session: sessionOf(all), node: nodeOf(all) }
}

/** A joined row: the columns that are not the node's carry their table's name. */
type Joined = NodeRow & {
  readonly [Name in keyof SessionRow as `session ${Name}`]: SessionRow[Name]
} & { readonly [Name in keyof TokenRow as `token ${Name}`]: TokenRow[Name] }

// Written out: objects that are put together by names in a loop cost more than the look-up.
function tokenOf(row: Joined): TokenRow {
  return {
    id: row['token id'],
    session: row['token session'],
    kind: row['token kind'],
    secret_hash: row['token secret_hash'],
    issued_at: row['token issued_at'],
    expires_at: row['token expires_at'],
    consumed_at: row['token consumed_at'],
    retired_at: row['token retired_at'],
    answer: row['token answer'],
  }
}

function sessionOf(row: Joined): SessionRow {
  return {
    id: row['session id'],
    node: row['session node'],
    sequence: row['session sequence'],
    tokens: row['session tokens'],
    local: row['session local'],
    state: row['session state'],
    stage: row['session stage'],
    cause: row['session cause'],
    pinned: row['session pinned'],
    facts: row['session facts'],
    source: row['session source'],
    started_at: row['session started_at'],
    last_seen_at: row['session last_seen_at'],
    expires_at: row['session expires_at'],
    ended_at: row['session ended_at'],
  }
}

function nodeOf(row: Joined): NodeRow {
  return {
    id: row.id,
    name: row.name,
    profile: row.profile,
    state: row.state,
    failure_cause: row.failure_cause,
    uuid: row.uuid,
    serial: row.serial,
    labels: row.labels,
    reinstall: row.reinstall,
    reinstall_attempts: row.reinstall_attempts,
    reinstall_session: row.reinstall_session,
    armed: row.armed,
    looping_since: row.looping_since,
    held_back_until: row.held_back_until,
    boots_counted_from: row.boots_counted_from,
    wireguard_public_key: row.wireguard_public_key,
    secret_id: row.secret_id,
    secret_hash: row.secret_hash,
    last_facts: row.last_facts,
    session: row.session,
    created_at: row.created_at,
    updated_at: row.updated_at,
    revision: row.revision,
  }
}

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
