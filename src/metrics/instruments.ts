import { Counter, Gauge, Histogram, Registry } from './prom-client.ts'
import type { Metric, MetricTable } from './table.ts'

/** The names of one type of a table. */
type Named<Table extends MetricTable, Type extends Metric['type']> = {
  [Name in keyof Table]: Table[Name]['type'] extends Type ? Name : never
}[keyof Table] &
  string

/** The instruments of a table, each under its name. */
export interface Instruments<Table extends MetricTable> {
  readonly registry: Registry
  counter(name: Named<Table, 'counter'>): Counter
  gauge(name: Named<Table, 'gauge'>): Gauge
  histogram(name: Named<Table, 'histogram'>): Histogram
}

/** Makes the instruments of a table in a registry of their own; nothing is ever in the library's global one. */
export function openInstruments<Table extends MetricTable>(table: Table): Instruments<Table> {
  const registry = new Registry()
  for (const [name, metric] of Object.entries(table)) add(registry, name, metric)
  // The table says of each name what it is, and `add` made it so.
  const find = (name: string): unknown => registry.getSingleMetric(name)
  return {
    registry,
    counter: (name) => find(name) as Counter,
    gauge: (name) => find(name) as Gauge,
    histogram: (name) => find(name) as Histogram,
  }
}

function add(registry: Registry, name: string, metric: Metric): void {
  const common = {
    name,
    help: metric.help,
    labelNames: Object.keys(metric.labels ?? {}),
    registers: [registry],
    aggregator: metric.across ?? ('sum' as const),
  }
  if (metric.type === 'counter') new Counter(common)
  else if (metric.type === 'gauge') new Gauge(common)
  else new Histogram({ ...common, buckets: [...(metric.buckets ?? [])] })
}
