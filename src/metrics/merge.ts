import { AggregatorRegistry } from './prom-client.ts'
import type { Snapshot } from './snapshot.ts'

/**
 * Puts the counts of several processes of one server together. A process that ended takes nothing back: what it had counted
 * stays in the sums, or every restart of a worker would look like a fall to zero, and the next scrape like a rise.
 */
export interface Merge {
  /** Takes what a process had counted. What comes late, behind something newer or behind its end, counts once. */
  add(process: string, said: Said): void
  /** A process ended: its counters stay, its gauges go. */
  ended(process: string): void
  /** The sums, and how many processes are in them. */
  total(own: Snapshot): Promise<Snapshot & { readonly processes: number }>
}

/** What a process said of itself, and when in the order of all that was said. */
export interface Said {
  readonly order: number
  readonly snapshot: Snapshot
}

/** Opens an empty one. */
export function openMerge(): Merge {
  const running = new Map<string, Said>()
  /** Their last words may still come: what two scrapes asked at once is taken one behind the other. */
  const over = new Map<string, Said | undefined>()
  /** A promise, so that two that end at once are both in it, and none is missing from a sum meanwhile. */
  let past: Promise<Snapshot> = Promise.resolve({ metrics: [], machines: [] })

  /** Takes those of whom nothing comes any more into one sum. */
  function settle(): void {
    for (const [process, said] of over) {
      if (over.size <= maxOver) return
      over.delete(process)
      if (said !== undefined) past = past.then((before) => sum([before, countersOf(said)]))
    }
  }

  return {
    add(process, said) {
      const among = over.has(process) ? over : running
      if ((among.get(process)?.order ?? 0) < said.order) among.set(process, said)
    },
    ended(process) {
      over.set(process, over.get(process) ?? running.get(process))
      running.delete(process)
      settle()
    },
    async total(own) {
      const now = [...running.values()].map(({ snapshot }) => snapshot)
      const ended = [...over.values()].flatMap((said) => (said === undefined ? [] : [countersOf(said)]))
      return { ...(await sum([own, ...ended, ...now, await past])), processes: now.length + 1 }
    },
  }
}

/** More than can end between the question of a scrape and its answer: a place that fails again and again pauses. */
const maxOver = 100

function countersOf({ snapshot }: Said): Snapshot {
  return { ...snapshot, metrics: snapshot.metrics.filter(({ type }) => String(type) !== 'gauge') }
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
