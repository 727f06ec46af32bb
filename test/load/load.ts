import { type ChildProcess, fork, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import type { Begun, PlayedNode } from './boot.ts'
import type { TlsWish } from './exchange.ts'

/** How work is spread over connections. `resumed` needs `remember` before. */
export interface Lanes {
  readonly wish: TlsWish
  /** Each connection goes to the next of these, as a balancer sends them; left out: all to that of the wish. */
  readonly ports?: readonly number[]
  readonly connections: 'new' | 'resumed' | 'kept'
  readonly concurrency: number
}

/** What a load process can be told to do. */
export type Job =
  | (Lanes & { readonly do: 'requests'; readonly requests: readonly string[]; readonly count?: number })
  | (Lanes & { readonly do: 'boots' | 'begin'; readonly nodes: readonly PlayedNode[] })
  | { readonly do: 'remember'; readonly wish: TlsWish; readonly request: string }
  | {
      readonly do: 'hold'
      readonly wish: TlsWish
      readonly count: number
      readonly requests: readonly string[]
      readonly stall: boolean
    }
  | { readonly do: 'release' }

/** What comes back. */
export interface JobResult {
  /** How long each piece took. */
  readonly milliseconds?: readonly number[]
  readonly begun?: readonly Begun[]
}

/** A process of its own that plays clients, one job after the other. */
export interface LoadProcess {
  readonly pid: number
  perform(job: Job): Promise<JobResult>
  close(): void
}

/** Starts one. */
export function startLoad(): LoadProcess {
  const child: ChildProcess = fork(join(import.meta.dirname, 'load-worker.ts'), [], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    execArgv: ['--disable-warning=ExperimentalWarning'],
  })
  let settle: { resolve(result: JobResult): void; reject(error: Error): void } | undefined
  child.on('message', ({ result, error }: { result?: JobResult; error?: string }) =>
    error === undefined ? settle?.resolve(result ?? {}) : settle?.reject(new Error(error)),
  )
  child.on('exit', () => settle?.reject(new Error('the load process ended')))
  return {
    pid: child.pid ?? 0,
    perform: (job) =>
      new Promise((resolve, reject) => {
        settle = { resolve, reject }
        child.send(job)
      }),
    close: () => child.kill('SIGKILL'),
  }
}

/** Why a program cannot be run; undefined where it can. */
export function absentProgram(name: string, ...args: string[]): string | undefined {
  return spawnSync(name, args.length === 0 ? ['--version'] : args, { stdio: 'ignore' }).status === 0
    ? undefined
    : `${name} is not installed`
}
