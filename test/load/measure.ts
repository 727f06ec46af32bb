import { readFileSync } from 'node:fs'

/** Two programs that do the same work. More is better. */
export interface Comparison {
  readonly name: string
  readonly unit: string
  /** Who we are compared with. */
  readonly other: string
  /** The work, one row each. */
  readonly rows: readonly string[]
  /** Why it cannot be made here; undefined where it can. */
  absent(): string | undefined
  /** Starts one side, does all rows, ends it: a figure for each row. */
  run(side: 'pawl' | 'other'): Promise<number[]>
}

/** A row of the result. */
export type Measured =
  | { readonly name: string; readonly skipped: string }
  | {
      readonly name: string
      readonly unit: string
      readonly other: string
      readonly pawl: number
      readonly otherValue: number
      /** The median of the ratios of each pair of runs. */
      readonly ratio: number
      readonly runs: number
    }

/** CPU seconds that a process has used, in user and system mode, its threads included. */
export function cpuSeconds(pid: number): number {
  // Behind the name, which may hold spaces: fields 14 and 15 of proc(5), in ticks of 10 ms.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / 100
}

/** The middle one. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const upper = sorted[middle] ?? 0
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2
}
