import type { Queries } from './database.ts'

/** Nodes by state and by reinstall mark, counted in one pass. */
export async function countNodes(
  db: Queries,
): Promise<{ readonly state: string; readonly reinstall: string; readonly count: number }[]> {
  const rows = await db
    .selectFrom('nodes')
    .select((e) => ['state', 'reinstall', e.fn.countAll().as('count')])
    .groupBy(['state', 'reinstall'])
    .execute()
  return rows.map(({ state, reinstall, count }) => ({ state, reinstall, count: Number(count) }))
}

/** Refusals since a time, listed and counted ones together, and how many nodes they were about. */
export async function countRefusals(
  db: Queries,
  since: Date,
): Promise<{ readonly count: number; readonly nodes: number }> {
  const recent = db.selectFrom('events').where('at', '>=', since.toISOString())
  const listed = await recent
    .where('kind', '=', 'refused')
    .select((e) => [e.fn.countAll().as('count'), e.fn.count('node').distinct().as('nodes')])
    .executeTakeFirstOrThrow()
  const counted = await recent.where('kind', '=', 'refusals-counted').select('detail').execute()
  const more = counted.map(({ detail }) => Number((JSON.parse(detail) as { count?: unknown }).count ?? 0))
  return {
    count: more.reduce((total, one) => total + one, Number(listed.count)),
    nodes: Number(listed.nodes),
  }
}
