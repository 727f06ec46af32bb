import type { Queries, Storage, Tx } from './database.ts'
import type { OperatorRow } from './tables.ts'

/** Stores the hash of an operator token just made. */
export async function insertOperator(tx: Tx, row: OperatorRow): Promise<void> {
  await tx.insertInto('operators').values(row).execute()
}

/** Finds an operator token by its id; revoked and expired ones too. */
export function findOperator(db: Queries, id: string): Promise<OperatorRow | undefined> {
  return db.selectFrom('operators').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Every operator token ever made, the newest first. */
export function listOperators(db: Queries): Promise<OperatorRow[]> {
  return db.selectFrom('operators').selectAll().orderBy('created_at', 'desc').orderBy('id').execute()
}

/** The same, and keeps other transactions from changing them: two that revoke one of two admins each must not both succeed. */
export function lockOperators(tx: Tx, dialect: Storage['dialect']): Promise<OperatorRow[]> {
  const query = tx.selectFrom('operators').selectAll().orderBy('id')
  return (dialect === 'postgres' ? query.forUpdate() : query).execute()
}

/** Changes columns of an operator token. */
export async function updateOperator(tx: Tx, id: string, changes: Partial<OperatorRow>): Promise<void> {
  await tx.updateTable('operators').set(changes).where('id', '=', id).execute()
}

/** How many operator tokens were ever made: none means a new installation. */
export async function countOperators(db: Queries): Promise<number> {
  const { count } = await db
    .selectFrom('operators')
    .select((e) => e.fn.countAll<number | string>().as('count'))
    .executeTakeFirstOrThrow()
  return Number(count)
}
