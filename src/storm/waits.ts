/** The storm is over, or the node's power went: what was waited for does not come. */
export class Ended extends Error {
  readonly why: 'stopped' | 'power'

  constructor(why: 'stopped' | 'power') {
    super(why)
    this.why = why
  }
}

/** Waits that end early with an `Ended` when the signal comes. */
export function wait(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }, seconds * 1000)
    const onAbort = (): void => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

/** Pauses that double, each longer or shorter by a quarter at random, so that clients which failed together do not come together again. */
export class Backoff {
  readonly #first: number
  readonly #most: number
  readonly #hurry: number
  #next: number

  constructor(first: number, most: number, hurry: number) {
    this.#first = first
    this.#most = most
    this.#hurry = hurry
    this.#next = first
  }

  /** The next pause in seconds; at least what the server asked for. */
  next(retryAfterSeconds = 0): number {
    const own = (this.#next * (0.75 + Math.random() / 2)) / this.#hurry
    this.#next = Math.min(this.#most, this.#next * 2)
    return Math.max(own, retryAfterSeconds)
  }

  /** Whether the longest pause has been reached. */
  get exhausted(): boolean {
    return this.#next >= this.#most
  }

  reset(): void {
    this.#next = this.#first
  }
}
