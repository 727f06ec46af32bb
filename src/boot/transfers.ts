/** The downloads under way in this process, by session, so that ending a session cuts them. */
export interface Transfers {
  /** Registers a transfer; call the returned function when it is over. */
  begin(session: string, cut: () => void): () => void
  /** Cuts every transfer of a session. */
  cut(session: string): void
  readonly count: () => number
  /** The sessions that have any. */
  readonly sessions: () => readonly string[]
}

/** Makes an empty register. */
export function openTransfers(): Transfers {
  const bySession = new Map<string, Set<() => void>>()
  return {
    begin(session, cut) {
      const cuts = bySession.get(session) ?? new Set()
      bySession.set(session, cuts.add(cut))
      return () => {
        cuts.delete(cut)
        if (cuts.size === 0 && bySession.get(session) === cuts) bySession.delete(session)
      }
    },
    cut(session) {
      for (const cut of bySession.get(session) ?? []) cut()
    },
    count: () => [...bySession.values()].reduce((sum, cuts) => sum + cuts.size, 0),
    sessions: () => [...bySession.keys()],
  }
}
