import type { Handshake } from './connections.ts'
import type { News, NodeResult, Timed } from './plan.ts'

/** What a process measures of itself since it was asked last. */
export interface Effort {
  readonly cpuSeconds: number
  readonly busyLoop: number
  readonly lagMilliseconds: number
}

/** Counts what happens in a client process, until it is told as news. */
export class Tally {
  #times: Partial<Record<Timed, number[]>> = {}
  #failures: Record<string, number> = {}
  #results: NodeResult[] = []
  #bytes = 0
  #retries = 0
  #busy = 0
  #busySeconds = 0
  #powerCycles = 0
  #begun = 0

  time(what: Timed, milliseconds: number): void {
    const times = this.#times[what] ?? []
    this.#times[what] = times
    // Tenths are enough, and short on the wire between processes.
    times.push(Math.round(milliseconds * 10) / 10)
  }

  handshake({ milliseconds, resumed }: Handshake): void {
    this.time(resumed ? 'handshake-resumed' : 'handshake', milliseconds)
  }

  fail(kind: string): void {
    this.#failures[kind] = (this.#failures[kind] ?? 0) + 1
  }

  bytes(number: number): void {
    this.#bytes += number
  }

  retry(): void {
    this.#retries += 1
  }

  busy(seconds: number): void {
    this.#busy += 1
    this.#busySeconds += seconds
  }

  powerCycle(): void {
    this.#powerCycles += 1
  }

  begin(): void {
    this.#begun += 1
  }

  end(result: NodeResult): void {
    this.#results.push(result)
  }

  /** What was counted since the last time. */
  news(effort: Effort): News {
    const news: News = {
      times: this.#times,
      failures: this.#failures,
      bytes: this.#bytes,
      retries: this.#retries,
      busy: this.#busy,
      busySeconds: this.#busySeconds,
      powerCycles: this.#powerCycles,
      begun: this.#begun,
      results: this.#results,
      ...effort,
    }
    this.#times = {}
    this.#failures = {}
    this.#results = []
    this.#bytes = 0
    this.#retries = 0
    this.#busy = 0
    this.#busySeconds = 0
    this.#powerCycles = 0
    this.#begun = 0
    return news
  }
}
