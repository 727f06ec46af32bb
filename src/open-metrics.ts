import { statfs } from 'node:fs/promises'
import { versions } from 'node:process'
import manifest from '../package.json' with { type: 'json' }
import type { BootContext } from './boot/context.ts'
import type { Config } from './config.ts'
import type { ProcessMetrics } from './metrics/counts.ts'
import { type MetricsPage, type OtherProcesses, openMetricsPage } from './metrics/page.ts'
import type { ServerFacts } from './metrics/server.ts'

/** What the page is put together from. */
export interface MetricsParts {
  readonly config: Pick<Config, 'dataDir' | 'metricsNodes'>
  readonly context: Pick<BootContext, 'storage' | 'clock'>
  readonly own: ProcessMetrics
  readonly certificates: () => ServerFacts['certificates']
  /** Whether this server does the chores of the fleet. Left out: it is the only one. */
  readonly leads?: () => boolean
  /** Other processes of this server that count. */
  readonly others?: OtherProcesses
}

/** What `/metrics` of this server answers. */
export function openMetrics({
  config,
  context,
  own,
  certificates,
  leads,
  others,
}: MetricsParts): MetricsPage {
  const { storage, clock } = context
  const startedAt = new Date(performance.timeOrigin)
  const build = { version: manifest.version, node: versions.node, database: storage.dialect }
  return openMetricsPage({
    db: storage.db,
    clock,
    own,
    maxNodes: config.metricsNodes,
    facts: async () => ({
      build,
      startedAt,
      leads: leads?.() ?? true,
      certificates: certificates(),
      disk: await diskOf(config.dataDir),
    }),
    ...(others === undefined ? {} : { others }),
  })
}

async function diskOf(folder: string): Promise<ServerFacts['disk']> {
  const found = await statfs(folder).catch(() => undefined)
  if (found === undefined) return undefined
  return { freeBytes: found.bavail * found.bsize, sizeBytes: found.blocks * found.bsize }
}
