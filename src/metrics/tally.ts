import type { Counter } from 'prom-client'

/** Counts of a few kinds, until a counter takes them. */
export interface Tally {
  /** One more of this kind; `labels` is asked once. */
  count(kind: string, labels: () => Record<string, string>): void
  /** Adds what was counted to the counter. */
  take(): void
}

/**
 * Counts for a counter, to be taken when that is read. The library makes a key of the labels each time; kinds are a few, of routes and
 * statuses, and never what a client writes.
 */
export function openTally(counter: Pick<Counter, 'inc'>): Tally {
  const kinds = new Map<string, { readonly labels: Record<string, string>; count: number }>()
  return {
    count(kind, labels) {
      const known = kinds.get(kind)
      if (known === undefined) kinds.set(kind, { labels: labels(), count: 1 })
      else known.count += 1
    },
    take() {
      for (const kind of kinds.values()) {
        if (kind.count > 0) counter.inc(kind.labels, kind.count)
        kind.count = 0
      }
    },
  }
}
