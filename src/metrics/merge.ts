import { AggregatorRegistry } from 'prom-client'
import type { Snapshot } from './snapshot.ts'

/**
 * Puts the counts of several processes of one server together. A process that ended takes nothing back: what it had counted
 * stays in the sums, or every restart of a worker would look like a fall to zero, and the next scrape like a rise.
 */
export interface Merge {
  /** Takes the latest of a process. */
  add(process: string, snapshot: Snapshot): void
  /** A process ended: its counters stay, its gauges go. */
  ended(process: string): void
  /** The sums, and how many processes are in them. */
  total(own: Snapshot): Promise<Snapshot & { readonly processes: number }>
}

/** Opens an empty one. */
export function openMerge(): Merge {
  const latest = new Map<string, Snapshot>()
  /** A promise, so that two that end at once are both in it, and none is missing from a sum meanwhile. */
  let past: Promise<Snapshot> = Promise.resolve({ metrics: [], machines: [] })

  return {
    add: (process, snapshot) => void latest.set(process, snapshot),
    ended(process) {
      const last = latest.get(process)
      latest.delete(process)
      if (last === undefined) return
      const counted = last.metrics.filter(({ type }) => String(type) !== 'gauge')
      past = past.then((before) => sum([before, { ...last, metrics: counted }]))
    },
    async total(own) {
      const now = [...latest.values()]
      return { ...(await sum([own, await past, ...now])), processes: now.length + 1 }
    },
  }
}

async function sum(snapshots: readonly Snapshot[]): Promise<Snapshot> {
  const [first, ...others] = snapshots.filter(({ metrics, machines }) => metrics.length + machines.length > 0)
  if (first === undefined) return { metrics: [], machines: [] }
  if (others.length === 0) return first
  const machines = new Map<string, number>()
  for (const [machine, count] of [first, ...others].flatMap((one) => one.machines))
    machines.set(machine, (machines.get(machine) ?? 0) + count)
  const all = AggregatorRegistry.aggregate([first, ...others].map(({ metrics }) => [...metrics]))
  return { metrics: await all.getMetricsAsJSON(), machines: [...machines] }
}
