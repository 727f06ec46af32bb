import type { Registry } from 'prom-client'

/** A metric with its values, as the library gives it for other processes. */
export type CountedMetric = Awaited<ReturnType<Registry['getMetricsAsJSON']>>[number]

/** What one process has counted: plain data that goes over a channel to another. */
export interface Snapshot {
  readonly metrics: readonly CountedMetric[]
  /** Stage 1s served, by the node's name. */
  readonly machines: readonly (readonly [machine: string, count: number])[]
}
