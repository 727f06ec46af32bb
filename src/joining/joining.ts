import type { JoinMeter } from '../domain/join-credential.ts'
import type { FindBroker } from './brokers.ts'
import type { BackendCalls } from './calls.ts'

/** What a process needs to have credentials made at clusters. */
export interface Joining {
  readonly broker: FindBroker
  /** Bounds on calls that a node waits for, and on those that nobody waits for. */
  readonly making: BackendCalls
  readonly removing: BackendCalls
  readonly limits: JoinLimits
  readonly meter: JoinMeter
  /** Begins work that nobody waits for. While one is under way another is begun once, behind it. */
  inBackground(work: () => Promise<unknown>): void
  /** Resolves when nothing is under way any more. */
  settled(): Promise<void>
}

/** Seconds. */
export interface JoinLimits {
  /** How long a credential is good for, where its profile does not say. */
  readonly lifetimeSeconds: number
  /** How long a call may take. */
  readonly timeoutSeconds: number
}

/** One piece of work at a time, and once more behind it where it was asked for meanwhile, whatever became of it. */
export function openBackground(onError: (error: unknown) => void): Pick<Joining, 'inBackground' | 'settled'> {
  let running: Promise<void> | undefined
  let next: (() => Promise<unknown>) | undefined

  async function rounds(): Promise<void> {
    while (next !== undefined) {
      const work = next
      next = undefined
      await round(work).catch(() => {}) // an error that cannot be told keeps nobody from the next round
    }
    running = undefined
  }

  async function round(work: () => Promise<unknown>): Promise<void> {
    try {
      await work()
    } catch (error) {
      onError(error)
    }
  }

  return {
    inBackground(work) {
      next = work
      running ??= Promise.resolve().then(rounds)
    },
    settled: async () => running,
  }
}
