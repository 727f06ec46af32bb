import type { ServerLoad } from './load.ts'
import { stepNames, type Timed } from './plan.ts'
import type { RecordSample } from './records.ts'
import { type Percentiles, percentilesOf, type Totals } from './totals.ts'
import type { Truth } from './truth.ts'

/** What a storm found. Times in milliseconds where the name does not say seconds. */
export interface StormResult {
  readonly id: string
  /** Every node became ready, and the server's record fits. */
  readonly ok: boolean
  readonly nodes: number
  readonly ready: number
  /** From the first node's power-on to the last one's report. */
  readonly seconds: number
  readonly bootsPerSecond: number
  readonly slowest: { readonly node: string; readonly seconds: number } | null
  readonly bytes: number
  readonly bytesPerSecond: number
  readonly steps: readonly ({ readonly step: Timed } & Percentiles)[]
  readonly failures: Readonly<Record<string, number>>
  readonly retries: number
  /** Answers of 503, and for how long they asked to wait, all together. */
  readonly busy: { readonly answers: number; readonly seconds: number }
  readonly powerCycles: number
  readonly evidence: string
  readonly server: (ServerLoad & { readonly cpuMillisecondsPerBoot: number }) | null
  readonly client: {
    readonly processes: number
    readonly cpuSeconds: number
    /** The longest that something ready waited for a process of ours. */
    readonly lagMilliseconds: number
    /** The part of the time that a process of ours had no time left, 0 to 1. */
    readonly saturated: number
    /** Whether the numbers tell of this client more than of the server; `why` in words. */
    readonly wasLimit: boolean
    readonly why: string | null
  }
  readonly machine: { readonly cores: number; readonly busy: number }
  /** What came to a client that asks for small records, as iPXE does; null where OpenSSL is not installed. */
  readonly records: RecordSample | null
  /** Null where the server could not be asked. */
  readonly truth: Truth | null
  /** Nodes that are not ready, with where they were; at most 20. */
  readonly notReady: readonly { readonly node: string; readonly cause: string }[]
}

/** What was measured beside the clients' own counts. */
export interface Measured {
  readonly id: string
  readonly nodes: number
  readonly seconds: number
  readonly evidence: string
  readonly processes: number
  readonly server: ServerLoad | undefined
  readonly machine: { readonly cores: number; readonly busy: number }
  readonly records: RecordSample | undefined
  readonly truth: Truth | null
}

const order: readonly Timed[] = ['held-back', 'handshake', 'handshake-resumed', ...stepNames, 'boot']
const mostListed = 20
/** So much of the time without a moment left is more than a burst. */
const saturatedPart = 0.2
const machineFull = 0.9

/** Puts it together. */
export function resultOf(totals: Totals, measured: Measured): StormResult {
  const { id, nodes, seconds, evidence, server, machine, truth } = measured
  const { ready, results } = totals
  const failed = results.filter((result) => !result.ready)
  const slowest = results
    .filter((result) => result.ready)
    .reduce<StormResult['slowest']>(
      (worst, { name, seconds }) =>
        worst === null || seconds > worst.seconds ? { node: name, seconds } : worst,
      null,
    )
  return {
    id,
    ok: ready === nodes && truth !== null && truth.faultCount === 0 && truth.ready === nodes,
    nodes,
    ready,
    seconds: rounded(seconds),
    bootsPerSecond: rounded(ready / Math.max(seconds, 0.001)),
    slowest,
    bytes: totals.bytes,
    bytesPerSecond: Math.round(totals.bytes / Math.max(seconds, 0.001)),
    steps: order.flatMap((step) => {
      const times = totals.times.get(step)
      return times === undefined ? [] : [{ step, ...percentilesOf(times) }]
    }),
    failures: Object.fromEntries([...totals.failures].sort(([, a], [, b]) => b - a)),
    retries: totals.retries,
    busy: { answers: totals.busy, seconds: totals.busySeconds },
    powerCycles: totals.powerCycles,
    evidence,
    server:
      server === undefined
        ? null
        : { ...server, cpuMillisecondsPerBoot: rounded((server.cpuSeconds * 1000) / Math.max(1, ready)) },
    client: clientOf(totals, measured),
    machine: { cores: machine.cores, busy: rounded(machine.busy) },
    records: measured.records ?? null,
    truth,
    notReady: failed.slice(0, mostListed).map(({ name, cause }) => ({ node: name, cause: cause ?? '' })),
  }
}

/** A client that had no time left measured itself; so did one that took the cores which the server wanted. */
function clientOf(totals: Totals, { processes, machine, server }: Measured): StormResult['client'] {
  const saturated = totals.told === 0 ? 0 : totals.saturated / totals.told
  const noPorts = totals.failures.get('no local port left') ?? 0
  const why =
    noPorts > 0
      ? 'this machine had no local port left: begin from more machines or addresses'
      : saturated >= saturatedPart
        ? `the client processes had no time left in ${Math.round(saturated * 100)} % of the time: give more with --workers`
        : machine.busy >= machineFull
          ? `all ${machine.cores} cores of this machine were busy${server === undefined ? '' : ', with client and server together'}: begin from another machine`
          : null
  return {
    processes,
    cpuSeconds: rounded(totals.cpuSeconds),
    lagMilliseconds: totals.lagMilliseconds,
    saturated: rounded(saturated),
    wasLimit: why !== null,
    why,
  }
}

function rounded(number: number): number {
  return Math.round(number * 100) / 100
}
