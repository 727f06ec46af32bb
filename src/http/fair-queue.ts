import type { Count } from './count.ts'

/** A place in the queue, held until it is taken or given up. */
export interface Place<Item> {
  readonly item: Item
  readonly site: string
  before: Place<Item> | undefined
  behind: Place<Item> | undefined
  waiting: boolean
}

/**
 * A queue that is first come, first served within a site, and round robin between sites: one of 5,000 machines and one of four
 * have the same turns. Nothing costs more the more wait, but `largest`, which looks at each site once.
 */
export interface FairQueue<Item> {
  push(site: string, item: Item): Place<Item>
  /** The next one in turn; undefined where none waits. */
  take(): Item | undefined
  /** Leaves the queue, wherever in it; nothing where it has left already. */
  leave(place: Place<Item>): void
  /** The site of which most wait. */
  largest(): { readonly site: string; readonly length: number; readonly newest: Place<Item> } | undefined
  /** The one of a site that came last. */
  newestOf(site: string): Place<Item> | undefined
  /** Who waits longest of each site. */
  oldest(): Place<Item>[]
  readonly length: () => number
  readonly lengthOf: (site: string) => number
  readonly sites: () => number
}

interface Line<Item> {
  oldest: Place<Item>
  newest: Place<Item>
  length: number
}

/** Makes an empty queue. `shared` counts those who wait by site, of several queues together. */
export function openFairQueue<Item>(shared?: Count): FairQueue<Item> {
  /** In the order of turns: whose turn is over goes behind the others. */
  const lines = new Map<string, Line<Item>>()
  let length = 0

  function push(site: string, item: Item): Place<Item> {
    const line = lines.get(site)
    const place: Place<Item> = { item, site, before: line?.newest, behind: undefined, waiting: true }
    if (line === undefined) lines.set(site, { oldest: place, newest: place, length: 1 })
    else {
      line.newest.behind = place
      line.newest = place
      line.length += 1
    }
    length += 1
    shared?.add(site, 1)
    return place
  }

  function leave(place: Place<Item>): void {
    const line = lines.get(place.site)
    if (!place.waiting || line === undefined) return
    place.waiting = false
    length -= 1
    shared?.add(place.site, -1)
    line.length -= 1
    if (line.length === 0) lines.delete(place.site)
    const { before, behind } = place
    if (before === undefined) line.oldest = behind ?? line.oldest
    else before.behind = behind
    if (behind === undefined) line.newest = before ?? line.newest
    else behind.before = before
  }

  function take(): Item | undefined {
    for (const [site, line] of lines) {
      const { oldest } = line
      leave(oldest)
      if (line.length > 0) {
        lines.delete(site)
        lines.set(site, line)
      }
      return oldest.item
    }
    return undefined
  }

  return {
    push,
    take,
    leave,
    largest() {
      let found: { site: string; length: number; newest: Place<Item> } | undefined
      for (const [site, { length, newest }] of lines) {
        if (length > (found?.length ?? 0)) found = { site, length, newest }
      }
      return found
    },
    newestOf: (site) => lines.get(site)?.newest,
    oldest: () => [...lines.values()].map((line) => line.oldest),
    length: () => length,
    lengthOf: (site) => lines.get(site)?.length ?? 0,
    sites: () => lines.size,
  }
}
