import type { Page } from './answers.ts'
import type { Api, Query } from './api.ts'

/** Follows a list to its end: what a fleet has fits in memory, and a table needs its widths. */
export async function wholeList<Item>(api: Api, path: string, query: Query = {}): Promise<Page<Item, never>> {
  const items: Item[] = []
  for (let after: string | undefined; ; ) {
    const page: Page<Item, string> = await api.get(path, { ...query, limit: 1000, after })
    items.push(...page.items)
    if (page.next === null) return { items, next: null }
    after = page.next
  }
}
