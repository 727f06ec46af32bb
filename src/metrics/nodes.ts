import type { Queries } from '../storage/database.ts'
import { pageOfBoots } from '../storage/metrics.ts'
import type { NodeSeries } from './exposition.ts'
import { seconds } from './fleet.ts'

const pageSize = 1000

/**
 * The last boots of each node, at most `limit` of them in the order of their names. Nodes that never succeeded, or never came,
 * are there with 0. Between two pages others have their turn.
 */
export async function readNodes(db: Queries, limit: number): Promise<Omit<NodeSeries, 'stage1s'>[]> {
  const nodes: Omit<NodeSeries, 'stage1s'>[] = []
  while (nodes.length < limit) {
    const size = Math.min(pageSize, limit - nodes.length)
    const page = await pageOfBoots(db, nodes.at(-1)?.name ?? '', size)
    for (const { name, lastBoot, lastSuccess } of page)
      nodes.push({ name, lastBoot: seconds(lastBoot) ?? 0, lastSuccess: seconds(lastSuccess) ?? 0 })
    if (page.length < size) break
    await new Promise((resolve) => setImmediate(resolve))
  }
  return nodes
}
