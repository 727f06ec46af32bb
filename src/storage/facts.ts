import type { Queries, Tx } from './database.ts'
import type { RefusedFactsRow } from './machine-tables.ts'
import { statement } from './statement.ts'

/** The facts that a node was refused for last, if it was. */
export function findRefusedFacts(db: Queries, node: string): Promise<RefusedFactsRow | undefined> {
  return byNode.first(db, { node })
}

const byNode = statement<{ node: string }>()((db, value) =>
  db.selectFrom('refused_facts').selectAll().where('node', '=', value('node')),
)

/** Keeps the facts that a node was refused for, in place of those before. */
export async function putRefusedFacts(tx: Tx, row: RefusedFactsRow): Promise<void> {
  const { facts, source, refused_at } = row
  await tx
    .insertInto('refused_facts')
    .values(row)
    .onConflict((c) => c.column('node').doUpdateSet({ facts, source, refused_at }))
    .execute()
}

/** Forgets them. */
export async function removeRefusedFacts(tx: Tx, node: string): Promise<void> {
  await drop.change(tx, { node })
}

const drop = statement<{ node: string }>()((db, value) =>
  db.deleteFrom('refused_facts').where('node', '=', value('node')),
)
