/** Counts by name; what is at zero is forgotten. */
export interface Count {
  add(name: string, by: number): void
  of(name: string): number
  entries(): Iterable<readonly [name: string, count: number]>
}

/** Nothing counted yet. */
export function openCount(): Count {
  const counts = new Map<string, number>()
  return {
    add(name, by) {
      const count = (counts.get(name) ?? 0) + by
      if (count <= 0) counts.delete(name)
      else counts.set(name, count)
    },
    of: (name) => counts.get(name) ?? 0,
    entries: () => counts.entries(),
  }
}
