import type { FromKeeper } from './messages.ts'
import type { Wire } from './wire.ts'

/** What a worker has counted, as it said it; what that is, its reader knows. */
export interface Measured {
  readonly worker: number
  readonly counts: unknown
}

/** Asks workers what they have counted. */
export interface Measuring {
  /** Resolves when all have said it, or the patience is over. */
  ask(
    workers: readonly { readonly worker: number; readonly wire: Wire<FromKeeper<unknown>> }[],
  ): Promise<Measured[]>
  take(worker: number, id: number, counts: unknown): void
  /** A worker that has ended says nothing more. */
  ended(worker: number): void
}

interface Round {
  readonly awaited: Set<number>
  readonly found: Measured[]
  readonly done: () => void
}

/** Opens it. A worker that does not answer in time is left out. */
export function openMeasuring(patienceMilliseconds: number): Measuring {
  const rounds = new Map<number, Round>()
  let lastId = 0

  function settle(round: Round, worker: number): void {
    round.awaited.delete(worker)
    if (round.awaited.size === 0) round.done()
  }

  return {
    ask(workers) {
      if (workers.length === 0) return Promise.resolve([])
      lastId += 1
      const id = lastId
      return new Promise((resolve) => {
        const found: Measured[] = []
        const done = (): void => {
          clearTimeout(late)
          rounds.delete(id)
          resolve(found)
        }
        const late = setTimeout(done, patienceMilliseconds)
        rounds.set(id, { awaited: new Set(workers.map(({ worker }) => worker)), found, done })
        for (const { wire } of workers) wire.send({ kind: 'measure', id })
      })
    },
    take(worker, id, counts) {
      const round = rounds.get(id)
      if (round === undefined || !round.awaited.has(worker)) return
      round.found.push({ worker, counts })
      settle(round, worker)
    },
    ended(worker) {
      for (const round of rounds.values()) settle(round, worker)
    },
  }
}
