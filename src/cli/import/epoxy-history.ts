import type { FleetFile } from '../fleet-yaml.ts'
import type { EpoxyHost } from './epoxy-records.ts'
import { type Gathering, textOf } from './gather.ts'

/** When a machine last began to boot, and last succeeded, by ePoxy's word: seconds since 1970. */
export interface EpoxyHistory {
  readonly machine: string
  readonly lastBoot: number | undefined
  readonly lastSuccess: number | undefined
}

/** What Go writes for a time that was never set. */
const never = '0001-01-01T00:00:00Z'

/** The times of a record. One that is no time, or later than now, is left out: an alert would be silent until it has come. */
export function historyOf(
  host: EpoxyHost,
  machine: string,
  { where, now, gathering }: { where: string; now: Date; gathering: Gathering },
): EpoxyHistory {
  const at = (field: 'LastSessionCreation' | 'LastSuccess'): number | undefined => {
    const text = textOf(host[field])
    if (text === undefined || text === never) return undefined
    const milliseconds = /^\d{4}-\d\d-\d\dT[\d:.]{8,18}(Z|[+-]\d\d:\d\d)$/.test(text)
      ? Date.parse(text)
      : Number.NaN
    if (milliseconds > 0 && milliseconds <= now.getTime()) return Math.floor(milliseconds / 1000)
    gathering.warn(where, `its ${field} is no time of before now: its metric begins with 0`)
    return undefined
  }
  return { machine, lastBoot: at('LastSessionCreation'), lastSuccess: at('LastSuccess') }
}

const metrics = [
  [
    'epoxy_last_boot',
    'lastBoot',
    'When ePoxy last served stage 1 to each machine, before it was moved to Pawl.',
  ],
  [
    'epoxy_last_success',
    'lastSuccess',
    'When each machine last reported success to ePoxy, before it was moved.',
  ],
] as const

/**
 * The times as a file for the textfile collector of Prometheus' node_exporter. They are ePoxy's word, so Pawl does not tell them as its own:
 * `max by (machine) (epoxy_last_boot)` is right from the first minute, and Pawl's own value is the larger one after a boot.
 */
export function historyFile(all: readonly EpoxyHistory[]): FleetFile[] {
  const lines = metrics.flatMap(([name, field, help]) => {
    const told = all.filter((one) => one[field] !== undefined)
    if (told.length === 0) return []
    return [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} gauge`,
      ...told.map((one) => `${name}{machine="${one.machine}"} ${one[field]}`),
    ]
  })
  return lines.length === 0 ? [] : [{ name: 'epoxy-history.prom', lines }]
}
