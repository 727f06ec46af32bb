/**
 * Pages that several readers at the same place share. Who replays the whole log passes every page of it once: so only the
 * few that were asked for last are held, and none that failed.
 */
export interface SharedPages<Row> {
  /** The page under a key: that which is held, or asked for now. */
  get(key: string, load: () => Promise<Row[]>): Promise<Row[]>
  /** Forgets all of them. */
  clear(): void
  /** How many are held. */
  readonly size: number
}

/** Holds at most so many. */
export function sharePages<Row>(most: number): SharedPages<Row> {
  const pages = new Map<string, Promise<Row[]>>() // the one asked for last is the last
  return {
    get(key, load) {
      const page = pages.get(key) ?? load()
      pages.delete(key)
      pages.set(key, page)
      for (const oldest of pages.keys()) {
        if (pages.size <= most) break
        pages.delete(oldest)
      }
      page.catch(() => {
        if (pages.get(key) === page) pages.delete(key)
      })
      return page
    },
    clear: () => pages.clear(),
    get size() {
      return pages.size
    },
  }
}
