import type { Queries, Storage, Tx } from './database.ts'
import type { OperatorRow } from './tables.ts'

/** An operator token just made: nobody used it yet. */
export type NewOperatorRow = Omit<OperatorRow, 'last_used_at' | 'last_used_from' | 'person'> & {
  readonly person?: string
}

/** Stores the hash of an operator token just made. */
export async function insertOperator(tx: Tx, row: NewOperatorRow): Promise<void> {
  await tx
    .insertInto('operators')
    .values({ person: null, ...row, last_used_at: null, last_used_from: null })
    .execute()
}

/** Finds an operator token by its id; revoked and expired ones too. */
export function findOperator(db: Queries, id: string): Promise<OperatorRow | undefined> {
  return db.selectFrom('operators').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Every operator token ever made, kept from being changed by other transactions: two that revoke one of two admins each must not both succeed. */
export function lockOperators(tx: Tx, dialect: Storage['dialect']): Promise<OperatorRow[]> {
  const query = tx.selectFrom('operators').selectAll().orderBy('id')
  return (dialect === 'postgres' ? query.forUpdate() : query).execute()
}

/** Changes columns of an operator token. */
export async function updateOperator(tx: Tx, id: string, changes: Partial<OperatorRow>): Promise<void> {
  await tx.updateTable('operators').set(changes).where('id', '=', id).execute()
}

/** Removes tokens of people that ended before this time; returns how many. Events go on naming them. */
export async function deleteEndedPersonalTokens(db: Queries, before: Date): Promise<number> {
  const { numDeletedRows } = await db
    .deleteFrom('operators')
    .where('person', 'is not', null)
    .where('expires_at', '<', before.toISOString())
    .executeTakeFirst()
  return Number(numDeletedRows)
}

/** How many operator tokens were ever made: none means a new installation. */
export async function countOperators(db: Queries): Promise<number> {
  const { count } = await db
    .selectFrom('operators')
    .select((e) => e.fn.countAll<number | string>().as('count'))
    .executeTakeFirstOrThrow()
  return Number(count)
}
