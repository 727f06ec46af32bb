import { type RawBuilder, sql } from 'kysely'
import type { StageName } from '../domain/stage.ts'
import type { SessionState } from '../domain/state.ts'
import type { SecretHash, TokenId } from '../domain/token.ts'
import { isPostgres } from './commit-order.ts'
import type { Tx } from './database.ts'
import { advanceSession, touchSession } from './sessions.ts'
import { perKey, statement } from './statement.ts'
import {
  insertedTokens,
  insertTokens,
  type NewToken,
  retiredTokens,
  retireTokens,
  rowsOf,
  type TokenValues,
  type WhichTokens,
} from './tokens.ts'

/** All that a redemption writes but its event. */
export interface Redeemed {
  readonly token: TokenId
  readonly hash: SecretHash
  /** The answer, sealed, where it may be asked for again. */
  readonly answer: string | null
  readonly session: string
  /** Where the session goes, and the stage that opened; left out where nothing but its idle timer is renewed. */
  readonly to?: { readonly state: SessionState; readonly stage: StageName; readonly endedAt?: Date }
  /** Tokens of the session whose time is over, never this one. */
  readonly retires?: WhichTokens
  readonly minted: readonly NewToken[]
  readonly now: Date
}

interface Consume {
  readonly token: string
  readonly hash: string
  readonly now: string
  readonly answer: string | null
}

/** The one statement that makes a token single-use: of many who try at once exactly one changes a row. */
function consumed(value: <Name extends keyof Consume>(name: Name) => Consume[Name]): RawBuilder<unknown> {
  return sql`update tokens set consumed_at = ${value('now')}, answer = ${value('answer')}
    where id = ${value('token')} and secret_hash = ${value('hash')}
      and consumed_at is null and retired_at is null and expires_at > ${value('now')}`
}

const consume = statement<Consume>()((_db, value) => consumed(value))

/** Uses a token up and keeps its sealed answer with it; false where somebody was first, or it is good no more. */
export async function consumeToken(
  tx: Tx,
  { token, hash, answer, now }: Pick<Redeemed, 'token' | 'hash' | 'answer' | 'now'>,
): Promise<boolean> {
  return (await consume.change(tx, { token, hash, answer, now: now.toISOString() })) === 1
}

/**
 * Uses a token up, moves its session on, retires what the stage before had and stores what was minted. The caller has locked the
 * token and seen that it is unused: on PostgreSQL one that is used throws, since its session has the minted tokens already. False
 * where it was not there to be used: the transaction must be given up then, since the rest may have been written. On PostgreSQL it is one
 * round trip; SQLite takes no such statement, and has no round trips.
 */
export async function writeRedemption(tx: Tx, redeemed: Redeemed): Promise<boolean> {
  if (isPostgres(tx)) return writeAtOnce(tx, redeemed)
  const { session, to, retires, minted, now } = redeemed
  if (!(await consumeToken(tx, redeemed))) return false
  if (to === undefined) await touchSession(tx, session, now)
  else await advanceSession(tx, session, to, now)
  if (retires !== undefined) await retireTokens(tx, session, retires, now)
  await insertTokens(tx, minted)
  return true
}

async function writeAtOnce(tx: Tx, redeemed: Redeemed): Promise<boolean> {
  const { token, hash, answer, session, to, retires, minted } = redeemed
  const now = redeemed.now.toISOString()
  const { state, stage } = to ?? { state: '', stage: '' } // of those that it does not name none is looked at
  const ended = to?.endedAt?.toISOString() ?? null
  const shape: Shape = { moves: to !== undefined, minted: minted.length, retires: retires ?? null }
  const values = { token, hash, answer, session, state, stage, ended, now, ...rowsOf(minted) }
  return (await atOnce(shape).change(tx, values)) === 1
}

interface Shape {
  readonly moves: boolean
  readonly minted: number
  readonly retires: WhichTokens | null
}

type Values = Consume &
  TokenValues &
  Readonly<{ session: string; state: string; stage: string; ended: string | null }>

const atOnce = perKey(({ moves, minted, retires }: Shape) =>
  statement<Values>()((_db, value) => {
    const session = sql`id = ${value('session')}`
    const parts: RawBuilder<unknown>[] = moves
      ? [
          sql`moved as (update sessions set state = ${value('state')}, stage = ${value('stage')},
            last_seen_at = ${value('now')}, ended_at = ${value('ended')} where ${session})`,
          sql`opened as (insert into session_stages (session, stage, opened_at, bytes)
            values (${value('session')}, ${value('stage')}, ${value('now')}, 0) on conflict do nothing)`,
        ]
      : [
          sql`touched as (update sessions set last_seen_at = ${value('now')} where ${session} and ended_at is null)`,
        ]
    if (retires !== null) parts.push(sql`retired as (${retiredTokens(retires, value)})`)
    if (minted > 0) parts.push(sql`minted as (${insertedTokens(minted, value)})`)
    return sql`with ${sql.join(parts)} ${consumed(value)}`
  }),
)
