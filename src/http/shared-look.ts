/**
 * One look for all who ask at about the same time: what is costly and the same for everyone is done once. Nobody gets what was there
 * before they asked. Behind each look there is a pause, in which others have the event loop; who asks meanwhile shares the next.
 */
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'

/** Milliseconds, and waiting for them. */
export interface LookTime {
  readonly now: () => number
  readonly wait: (milliseconds: number) => Promise<unknown>
}

/** For each part of the time that a look takes, so many parts are others'. */
const pauseParts = 4
const realTime: LookTime = {
  now: performance.now.bind(performance),
  wait: (milliseconds) => sleep(milliseconds),
}

/** Shares `look`. */
export function sharedLook<T>(look: () => Promise<T>, { now, wait }: LookTime = realTime): () => Promise<T> {
  let next: Promise<T> | undefined
  let running: Promise<unknown> = Promise.resolve()
  let freeAt = Number.NEGATIVE_INFINITY

  async function timed(): Promise<T> {
    const began = now()
    try {
      return await look()
    } finally {
      const ended = now()
      freeAt = ended + pauseParts * (ended - began)
    }
  }

  async function lookNext(): Promise<T> {
    await running
    await wait(Math.max(0, freeAt - now()))
    next = undefined
    const mine = timed()
    running = mine.catch(() => {})
    return mine
  }

  return () => {
    next ??= lookNext()
    return next
  }
}
