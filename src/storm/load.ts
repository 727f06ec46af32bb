import { readdirSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'

/** What a server's processes used, all together. */
export interface ServerLoad {
  /** `process`: read from this machine's /proc. `status`: what the server's processes say of themselves, a few seconds late. */
  readonly source: 'process' | 'status'
  readonly cpuSeconds: number
  /** The most memory at one time (resident), bytes. */
  readonly memoryBytes: number
  /** The most processes at one time. */
  readonly processes: number
  /** How often it was another process than before: it was started again. */
  readonly restarts: number
}

/** Follows what a server uses, from the first look on. */
export interface Watch {
  /** Looks, where it is time to; `last`: in any case. */
  look(last?: boolean): void | Promise<void>
  /** Undefined where it could not be seen. */
  result(): ServerLoad | undefined
}

/** Clock ticks of /proc/PID/stat (USER_HZ), a constant of Linux for programs. */
const ticksPerSecond = 100

/**
 * Follows the processes of a server on this machine: the one whose id `findProcess` tells, and all that it has started. A process
 * that ended between two looks is counted up to the last.
 */
export class ServerWatch implements Watch {
  readonly #findProcess: () => number | undefined
  readonly #proc: string
  readonly #first = new Map<string, number>()
  readonly #last = new Map<string, number>()
  #begun = false
  #root: number | undefined
  #memoryBytes = 0
  #processes = 0
  #restarts = 0

  constructor(findProcess: () => number | undefined, proc = '/proc') {
    this.#findProcess = findProcess
    this.#proc = proc
  }

  /** Looks once; the first time tells from where to count. */
  look(): void {
    const root = this.#findProcess()
    if (root === undefined) return
    const tree = this.#tree(root)
    if (tree.length === 0) return
    if (this.#root !== undefined && this.#root !== root) this.#restarts += 1
    this.#root = root
    let memory = 0
    for (const id of tree) {
      const seen = this.#read(id)
      if (seen === undefined) continue
      memory += seen.memoryBytes
      // What began while we looked began at nothing.
      if (!this.#first.has(seen.key)) this.#first.set(seen.key, this.#begun ? 0 : seen.cpuSeconds)
      this.#last.set(seen.key, seen.cpuSeconds)
    }
    this.#begun = true
    this.#memoryBytes = Math.max(this.#memoryBytes, memory)
    this.#processes = Math.max(this.#processes, tree.length)
  }

  /** What was used since the first look; undefined where the processes cannot be seen. */
  result(): ServerLoad | undefined {
    if (!this.#begun) return undefined
    let cpuSeconds = 0
    for (const [key, last] of this.#last) cpuSeconds += last - (this.#first.get(key) ?? 0)
    return {
      source: 'process',
      cpuSeconds: Math.round(cpuSeconds * 100) / 100,
      memoryBytes: this.#memoryBytes,
      processes: this.#processes,
      restarts: this.#restarts,
    }
  }

  #tree(id: number): number[] {
    const found = [id]
    try {
      const tasks = join(this.#proc, String(id), 'task')
      for (const task of readdirSync(tasks)) {
        const text = readFileSync(join(tasks, task, 'children'), 'utf8')
        for (const child of text.split(' ').filter((word) => word !== ''))
          found.push(...this.#tree(Number(child)))
      }
    } catch {
      return []
    }
    return found
  }

  /** proc(5): after the name in brackets, field 14 and 15 are user and system time, 22 the start, 24 the resident pages. */
  #read(id: number): { key: string; cpuSeconds: number; memoryBytes: number } | undefined {
    try {
      const text = readFileSync(join(this.#proc, String(id), 'stat'), 'utf8')
      const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
      const [user, system, start, pages] = [11, 12, 19, 21].map((at) => Number(fields[at]))
      return {
        key: `${id} ${start}`,
        cpuSeconds: ((user ?? 0) + (system ?? 0)) / ticksPerSecond,
        memoryBytes: (pages ?? 0) * 4096,
      }
    } catch {
      return undefined
    }
  }
}

/** How busy all cores of this machine are, from the first call on. */
export function watchMachine(): () => { readonly cores: number; readonly busy: number } {
  const first = coreTimes()
  return () => {
    const now = coreTimes()
    const total = now.total - first.total
    return { cores: cpus().length, busy: total === 0 ? 0 : 1 - (now.idle - first.idle) / total }
  }
}

function coreTimes(): { total: number; idle: number } {
  let [total, idle] = [0, 0]
  for (const { times } of cpus()) {
    total += times.user + times.nice + times.sys + times.idle + times.irq
    idle += times.idle
  }
  return { total, idle }
}
