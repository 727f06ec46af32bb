import type { Queries, Tx } from './database.ts'
import { statement } from './statement.ts'

/** Notes that a node came by a root. */
export async function noteNodeRoot(
  tx: Tx,
  { node, root, source }: { readonly node: string; readonly root: string; readonly source: string },
  now: Date,
): Promise<void> {
  await put.change(tx, { node, root, source, at: now.toISOString() })
}

const put = statement<{ node: string; root: string; source: string; at: string }>()((db, value) =>
  db
    .insertInto('node_roots')
    .values({
      ...{ node: value('node'), root: value('root') },
      ...{ first_at: value('at'), last_at: value('at'), last_source: value('source') },
    })
    .onConflict((c) =>
      c.columns(['node', 'root']).doUpdateSet({ last_at: value('at'), last_source: value('source') }),
    ),
)

/** A node that came by a root. */
export interface RootUser {
  readonly node: string
  readonly lastAt: string
  readonly source: string
  /** When it came by another root last; null where it never did. */
  readonly otherAt: string | null
}

/** Which of them: since a time, or those that came by no other root since. */
export interface WhichUsers {
  readonly since?: Date
  readonly lastOnly?: boolean
}

/** The nodes that came by a root, the last first. */
export async function listRootUsers(
  db: Queries,
  root: string,
  limit: number,
  { since, lastOnly = false }: WhichUsers = {},
): Promise<RootUser[]> {
  let query = db
    .selectFrom('node_roots as used')
    .innerJoin('nodes', 'nodes.id', 'used.node')
    .leftJoin('node_roots as other', (join) =>
      join.onRef('other.node', '=', 'used.node').on('other.root', '<>', root),
    )
    .where('used.root', '=', root)
    .groupBy(['nodes.name', 'used.last_at', 'used.last_source'])
    .select((e) => [
      'nodes.name as node',
      'used.last_at as lastAt',
      'used.last_source as source',
      e.fn.max('other.last_at').as('otherAt'),
    ])
  if (since !== undefined) query = query.where('used.last_at', '>', since.toISOString())
  if (lastOnly)
    query = query.having((e) =>
      e.or([
        e(e.fn.max('other.last_at'), 'is', null),
        e(e.fn.max('other.last_at'), '<=', e.ref('used.last_at')),
      ]),
    )
  return query.orderBy('used.last_at', 'desc').orderBy('nodes.name').limit(limit).execute()
}

/** How many nodes came by a root, since a time or ever. */
export async function countRootUsers(db: Queries, root: string, since?: Date): Promise<number> {
  let query = db
    .selectFrom('node_roots')
    .where('root', '=', root)
    .select((e) => e.fn.countAll<number | string>().as('count'))
  if (since !== undefined) query = query.where('last_at', '>', since.toISOString())
  const { count } = await query.executeTakeFirstOrThrow()
  return Number(count)
}
