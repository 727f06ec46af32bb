import { openInstruments } from './instruments.ts'
import type { CountedMetric } from './snapshot.ts'
import { serverMetrics } from './table.ts'

/** What the server that answers says of itself. */
export interface ServerFacts {
  readonly build: { readonly version: string; readonly node: string; readonly database: string }
  readonly startedAt: Date
  /** Whether it does the chores of the fleet. */
  readonly leads: boolean
  readonly certificates: readonly { readonly listener: string; readonly notAfter: Date }[]
  /** Of the data folder; undefined where it cannot be known. */
  readonly disk: { readonly freeBytes: number; readonly sizeBytes: number } | undefined
}

/** The numbers of the server that answers. */
export async function readServer(
  { build, startedAt, leads, certificates, disk }: ServerFacts,
  { processes, left }: { readonly processes: number; readonly left: number | undefined },
): Promise<readonly CountedMetric[]> {
  const { gauge, registry } = openInstruments(serverMetrics)
  gauge('pawl_build_info').set({ ...build }, 1)
  gauge('process_start_time_seconds').set(startedAt.getTime() / 1000)
  gauge('pawl_workers').set(processes)
  gauge('pawl_leader').set(leads ? 1 : 0)
  for (const { listener, notAfter } of certificates)
    gauge('pawl_certificate_expiry_timestamp_seconds').set({ listener }, notAfter.getTime() / 1000)
  if (disk === undefined) {
    registry.removeSingleMetric('pawl_disk_free_bytes')
    registry.removeSingleMetric('pawl_disk_size_bytes')
  } else {
    gauge('pawl_disk_free_bytes').set(disk.freeBytes)
    gauge('pawl_disk_size_bytes').set(disk.sizeBytes)
  }
  if (left === undefined) registry.removeSingleMetric('pawl_nodes_without_series')
  else gauge('pawl_nodes_without_series').set(left)
  return registry.getMetricsAsJSON()
}
