import type { Tx } from './database.ts'
import type { JoinSeedRow } from './seed-tables.ts'
import { statement } from './statement.ts'
import type { NodeRow, SessionRow } from './tables.ts'

/** Stores the token of a seed URL: its hash, never its secret. */
export async function insertSeed(tx: Tx, row: JoinSeedRow): Promise<void> {
  await tx.insertInto('join_seeds').values(row).execute()
}

/** A seed's token with the session and the node that it was given to. */
export interface SeedFound {
  readonly seed: JoinSeedRow
  readonly session: SessionRow
  readonly node: NodeRow
}

const locking = statement<{ id: string }>()((db, value, postgres) => {
  const query = db
    .selectFrom('nodes')
    .innerJoin('sessions', 'sessions.node', 'nodes.id')
    .innerJoin('join_seeds', 'join_seeds.session', 'sessions.id')
    .selectAll('nodes')
    .where('join_seeds.id', '=', value('id'))
  return postgres ? query.forUpdate('nodes') : query
})

/** Finds a seed's token, its session and its node, and keeps other transactions from changing them: all of a boot waits for the node. */
export async function lockSeed(tx: Tx, id: string): Promise<SeedFound | undefined> {
  const node = await locking.first(tx, { id })
  if (node === undefined) return undefined
  const seed = await tx.selectFrom('join_seeds').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
  const session = await tx
    .selectFrom('sessions')
    .selectAll()
    .where('id', '=', seed.session)
    .executeTakeFirstOrThrow()
  return { seed, session, node: node as NodeRow } // all columns of its table
}

/** Keeps how often each file was asked for. */
export async function putAsked(tx: Tx, id: string, asked: Readonly<Record<string, number>>): Promise<void> {
  await tx
    .updateTable('join_seeds')
    .set({ asked: JSON.stringify(asked) })
    .where('id', '=', id)
    .execute()
}
