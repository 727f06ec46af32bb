import type { Queries, Tx } from './database.ts'
import type { OperatorRow } from './tables.ts'

/** Stores the hash of an operator token just made. */
export async function insertOperator(tx: Tx, row: OperatorRow): Promise<void> {
  await tx.insertInto('operators').values(row).execute()
}

/** Finds an operator token by its id; revoked and expired ones too. */
export function findOperator(db: Queries, id: string): Promise<OperatorRow | undefined> {
  return db.selectFrom('operators').selectAll().where('id', '=', id).executeTakeFirst()
}

/** How many operator tokens were ever made: none means a new installation. */
export async function countOperators(db: Queries): Promise<number> {
  const { count } = await db
    .selectFrom('operators')
    .select((e) => e.fn.countAll<number | string>().as('count'))
    .executeTakeFirstOrThrow()
  return Number(count)
}
