import type { OperatorApi } from './api.ts'
import type { ServerLoad, Watch } from './load.ts'

/** A process of the server, as `GET /status` tells it. */
interface ProcessStatus {
  readonly id: string
  readonly startedAt: string
  readonly load: { readonly cpuSeconds: number; readonly memoryBytes: number }
}

/** The server's processes write down what they do every few seconds: more often there is nothing new. */
const looksApart = 5

/** Follows the processes of a server elsewhere, by what they say of themselves. */
export class StatusWatch implements Watch {
  readonly #api: Pick<OperatorApi, 'get'>
  readonly #first = new Map<string, number>()
  readonly #last = new Map<string, number>()
  #asked = 0
  #memoryBytes = 0
  #processes = 0
  #restarts = 0

  constructor(api: Pick<OperatorApi, 'get'>) {
    this.#api = api
  }

  async look(last = false): Promise<void> {
    this.#asked += 1
    if (!last && this.#asked % looksApart !== 1) return
    const processes = await this.#api.get<{ processes?: ProcessStatus[] }>('/status').then(
      (status) => status.processes ?? [],
      () => [], // a server that is away is looked at again
    )
    const begun = this.#first.size > 0
    for (const { id, startedAt, load } of processes) {
      const key = `${id} ${startedAt}`
      if (!this.#first.has(key)) {
        this.#first.set(key, begun ? 0 : load.cpuSeconds)
        if (begun) this.#restarts += 1
      }
      this.#last.set(key, load.cpuSeconds)
    }
    const memory = processes.reduce((sum, { load }) => sum + load.memoryBytes, 0)
    this.#memoryBytes = Math.max(this.#memoryBytes, memory)
    this.#processes = Math.max(this.#processes, processes.length)
  }

  result(): ServerLoad | undefined {
    if (this.#first.size === 0) return undefined
    let cpuSeconds = 0
    for (const [key, last] of this.#last) cpuSeconds += last - (this.#first.get(key) ?? 0)
    return {
      source: 'status',
      cpuSeconds: Math.round(cpuSeconds * 100) / 100,
      memoryBytes: this.#memoryBytes,
      processes: this.#processes,
      restarts: this.#restarts,
    }
  }
}
