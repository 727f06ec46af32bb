import { AggregatorRegistry, Registry } from './prom-client.ts'
import type { CountedMetric } from './snapshot.ts'
import { nodeMetrics } from './table.ts'

/** The two formats that Prometheus reads. */
export type Format = 'text' | 'openmetrics'

export const contentTypes: Readonly<Record<Format, string>> = {
  text: Registry.PROMETHEUS_CONTENT_TYPE,
  openmetrics: Registry.OPENMETRICS_CONTENT_TYPE,
}

/** What a scrape that sends this Accept is given: OpenMetrics 1 where it is wanted at least as much as text. */
export function formatFor(accept: string | undefined): Format {
  const weights = { openmetrics: 0, text: 0 }
  for (const range of (accept ?? '').slice(0, 1000).split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
    const weight = Number(parameters.find((one) => one.startsWith('q='))?.slice(2) ?? 1)
    const version = parameters.find((one) => one.startsWith('version='))?.slice(8)
    if (!(weight > 0)) continue
    // Prometheus asks for 0.0.1 too, which the library does not write.
    if (type === 'application/openmetrics-text' && (version === undefined || version === '1.0.0'))
      weights.openmetrics = Math.max(weights.openmetrics, weight)
    else if (['text/plain', 'text/*', '*/*'].includes(type)) weights.text = Math.max(weights.text, weight)
  }
  return weights.openmetrics > 0 && weights.openmetrics >= weights.text ? 'openmetrics' : 'text'
}

/** Writes metrics in a format, without its end. */
export async function write(metrics: readonly CountedMetric[], format: Format): Promise<string> {
  const named = metrics.filter(({ values }) => values.length > 0).map((metric) => nameFor(format, metric))
  const registry = AggregatorRegistry.aggregate([named]) as unknown as Registry
  registry.setContentType(contentTypes[format] as never) // the type knows one of the two
  const text = await registry.metrics()
  return format === 'text' ? text : text.replace(/# EOF\n$/, '')
}

/** The end of an answer. */
export function endOf(format: Format): string {
  return format === 'text' ? '' : '# EOF\n'
}

/** In OpenMetrics a counter's name is without `_total`, and its sample has it: the library adds it. */
function nameFor(format: Format, metric: CountedMetric): CountedMetric {
  if (format === 'text' || String(metric.type) !== 'counter') return metric
  return { ...metric, name: metric.name.replace(/_total$/, '') }
}

/** A node's numbers under ePoxy's names; times in seconds since 1970. */
export interface NodeSeries {
  readonly name: string
  readonly stage1s: number
  readonly lastBoot: number
  readonly lastSuccess: number
}

const values = {
  epoxy_stage1_total: (node: NodeSeries) => node.stage1s,
  epoxy_last_boot: (node: NodeSeries) => node.lastBoot,
  epoxy_last_success: (node: NodeSeries) => node.lastSuccess,
} as const satisfies Record<keyof typeof nodeMetrics, unknown>

/**
 * Writes the series that every node has. By hand: the library keeps an object a series, and takes ten times as long for
 * thirty thousand.
 */
export function writeNodes(nodes: readonly NodeSeries[], format: Format): string {
  if (nodes.length === 0) return ''
  const parts: string[] = []
  for (const [name, numberOf] of Object.entries(values)) {
    const { help, type } = nodeMetrics[name as keyof typeof nodeMetrics] // the same names, says the type above
    const family = format === 'openmetrics' ? name.replace(/_total$/, '') : name
    parts.push(`# HELP ${family} ${help}\n# TYPE ${family} ${type}\n`)
    for (const node of nodes) parts.push(`${name}{machine="${escaped(node.name)}"} ${numberOf(node)}\n`)
    if (format === 'text') parts.push('\n')
  }
  return parts.join('')
}

/** As both formats want it. A node's name has nothing to escape; what is written holds even so. */
function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}
