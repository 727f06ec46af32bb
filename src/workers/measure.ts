import type { FromKeeper } from './messages.ts'
import type { Wire } from './wire.ts'

/** What a worker has counted, as it said it; what that is, its reader knows. */
export interface Measured {
  readonly worker: number
  /** How often that one was started again before: what another process in its place says is its own. */
  readonly restarts: number
  /** Rises with each word of any of them. */
  readonly order: number
  readonly counts: unknown
}

/** Who is asked. */
export interface MeasuredWorker {
  readonly worker: number
  readonly restarts: number
  readonly wire: Wire<FromKeeper<unknown>>
}

/** Asks workers what they have counted. */
export interface Measuring {
  /** Resolves when all have said it, or the patience is over. */
  ask(workers: readonly MeasuredWorker[]): Promise<Measured[]>
  take(worker: number, id: number, counts: unknown): void
  /** A worker that has ended says nothing more. */
  ended(worker: number): void
}

interface Round {
  /** Each with its restarts. */
  readonly awaited: Map<number, number>
  readonly found: Measured[]
  readonly done: () => void
}

/** Opens it. A worker that does not answer in time is left out. */
export function openMeasuring(patienceMilliseconds: number): Measuring {
  const rounds = new Map<number, Round>()
  let lastId = 0
  let order = 0

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
        rounds.set(id, {
          awaited: new Map(workers.map(({ worker, restarts }) => [worker, restarts])),
          found,
          done,
        })
        for (const { wire } of workers) wire.send({ kind: 'measure', id })
      })
    },
    take(worker, id, counts) {
      const round = rounds.get(id)
      const restarts = round?.awaited.get(worker)
      if (round === undefined || restarts === undefined) return
      order += 1
      round.found.push({ worker, restarts, order, counts })
      settle(round, worker)
    },
    ended(worker) {
      for (const round of rounds.values()) settle(round, worker)
    },
  }
}
