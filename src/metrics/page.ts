import { setTimeout } from 'node:timers/promises'
import type { Clock } from '../domain/clock.ts'
import type { Queries } from '../storage/database.ts'
import type { ProcessMetrics } from './counts.ts'
import { contentTypes, endOf, type Format, formatFor, write, writeNodes } from './exposition.ts'
import { databaseDown, readFleet } from './fleet.ts'
import { openMerge, type Said } from './merge.ts'
import { readNodes } from './nodes.ts'
import { readServer, type ServerFacts } from './server.ts'
import type { CountedMetric, Snapshot } from './snapshot.ts'

/** What `/metrics` answers. */
export interface MetricsPage {
  answer(accept: string | undefined): Promise<{ readonly type: string; readonly body: string }>
}

/** The other processes of this server, where there are any. */
export interface OtherProcesses {
  /**
   * Asks each for its snapshot; one that does not answer in time is left out, and its last one stands. A process that is
   * started in the place of another has a name of its own.
   */
  snapshots(): Promise<readonly (Said & { readonly process: string })[]>
  /** Calls back when one has ended. */
  onEnd(ended: (process: string) => void): void
}

/** What the page is made of. */
export interface PageOptions {
  readonly db: Queries
  readonly clock: Clock
  readonly own: Pick<ProcessMetrics, 'snapshot'>
  readonly facts: () => Promise<ServerFacts>
  /** Nodes that have series of their own, at most. */
  readonly maxNodes: number
  readonly others?: OtherProcesses
}

/** Prometheus waits ten seconds for all of it: a database that takes longer than this does not answer. */
const patienceMilliseconds = 7000
/** How long what was read from the database is given again: however many scrape, it is asked this often. */
const cacheMilliseconds = 5000

interface FleetRead {
  readonly at: number
  readonly metrics: readonly CountedMetric[]
  readonly nodes: Awaited<ReturnType<typeof readNodes>>
}

/** Opens the page. */
export function openMetricsPage({ db, clock, own, facts, maxNodes, others }: PageOptions): MetricsPage {
  const merge = openMerge()
  others?.onEnd(merge.ended)
  let reading: Promise<FleetRead> | undefined
  let latest: FleetRead | undefined

  function fleet(): Promise<FleetRead> | FleetRead {
    const now = clock().getTime()
    if (latest !== undefined && Math.abs(now - latest.at) < cacheMilliseconds) return latest
    reading ??= read(now).finally(() => {
      reading = undefined
    })
    return reading
  }

  async function read(at: number): Promise<FleetRead> {
    const waiting = new AbortController()
    const [metrics, nodes] = await Promise.race([readBoth(), silent(waiting.signal)]).finally(() =>
      waiting.abort(),
    )
    latest = { at, metrics, nodes }
    return latest
  }

  async function readBoth(): Promise<readonly [readonly CountedMetric[], FleetRead['nodes']]> {
    const metrics = await readFleet(db, clock())
    return [metrics, maxNodes === 0 ? [] : await readNodes(db, maxNodes).catch(() => [])]
  }

  async function counted(): Promise<Snapshot & { readonly processes: number }> {
    for (const { process, ...said } of (await others?.snapshots()) ?? []) merge.add(process, said)
    return merge.total(await own.snapshot())
  }

  async function body(format: Format): Promise<string> {
    const [{ metrics, nodes }, { machines, processes, ...sums }] = await Promise.all([fleet(), counted()])
    const total = sumOf(metrics, 'pawl_nodes')
    const left = total === undefined ? undefined : Math.max(0, total - nodes.length)
    const server = await readServer(await facts(), { processes, left })
    const stage1s = new Map(machines)
    const series = nodes.map((node) => ({ ...node, stage1s: stage1s.get(node.name) ?? 0 }))
    const parts = [
      await write(server, format),
      await write(metrics, format),
      writeNodes(series, format),
      await write(sums.metrics, format),
    ]
    return parts.join(format === 'text' ? '\n' : '') + endOf(format)
  }

  return {
    answer: async (accept) => {
      const format = formatFor(accept)
      return { type: contentTypes[format], body: await body(format) }
    },
  }
}

async function silent(signal: AbortSignal): Promise<readonly [readonly CountedMetric[], FleetRead['nodes']]> {
  await setTimeout(patienceMilliseconds, undefined, { ref: false, signal })
  return [await databaseDown(), []]
}

function sumOf(metrics: readonly CountedMetric[], name: string): number | undefined {
  return metrics.find((metric) => metric.name === name)?.values.reduce((sum, { value }) => sum + value, 0)
}
