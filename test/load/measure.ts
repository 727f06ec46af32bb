import { readdirSync, readFileSync } from 'node:fs'

/**
 * What is measured, and how a figure is read off a process. The comparisons themselves are one file each (`images.ts`,
 * `handshakes.ts`, …); `bench.ts` runs them.
 */
export interface Comparison {
  readonly name: string
  readonly unit: string
  readonly better: 'more' | 'less'
  /** Who does the work: ours first, then everyone it is compared with. */
  readonly sides: readonly string[]
  /** The work, one row each. */
  readonly rows: readonly Row[]
  /** Why it cannot be measured here; undefined where it can. */
  absent(): string | undefined
  /** Starts all sides. */
  open(): Promise<OpenComparison>
}

/** One row: a kind of work, and what is to be reached. */
export interface Row {
  readonly name: string
  readonly target?: Target
  /** Which sides do this row; left out: all. */
  readonly sides?: readonly string[]
}

/** A bound of our own figure, or of its ratio to the first other's; more or less as the comparison has it. */
export interface Target {
  readonly of: 'ratio' | 'value'
  readonly bound: number
}

/** A comparison whose sides run. */
export interface OpenComparison {
  /** Does the work of a row once, on one side: its figure. */
  run(side: string, row: number): Promise<number>
  close(): Promise<void>
}

/** A row of the result: our side, or ours beside one other. */
export interface Measured {
  readonly name: string
  readonly unit: string
  readonly better: 'more' | 'less'
  readonly pawl: number
  readonly other?: { readonly name: string; readonly value: number; readonly ratio: number }
  readonly target?: Target
  readonly met?: boolean
  readonly runs: number
}

/** CPU seconds that a process and all below it have used, in user and system mode, ended and waited-for ones included. */
export function cpuSeconds(pid: number): number {
  let ticks = 0
  // Those below first: the time of one that ends meanwhile is in what is read of its parent then.
  for (const each of treeOf(pid).reverse()) {
    try {
      ticks += statOf(each).ticks
    } catch (error) {
      if (each === pid) throw error
    }
  }
  return ticks / 100
}

/** Memory of a process and all below it, in KB: what is theirs alone, and their share of what several have. */
export function memoryKB(pid: number): number {
  let sum = 0
  for (const each of treeOf(pid)) {
    const rollup = readFileSync(`/proc/${each}/smaps_rollup`, 'utf8')
    sum += Number(/^Pss: +(\d+) kB/m.exec(rollup)?.[1])
  }
  return sum
}

/** A process and its children, and theirs. */
export function treeOf(pid: number): number[] {
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc').filter((each) => /^\d+$/.test(each))) {
    try {
      const { parent } = statOf(Number(name))
      children.set(parent, [...(children.get(parent) ?? []), Number(name)])
    } catch {
      // It ended meanwhile.
    }
  }
  const found = [pid]
  for (const each of found) found.push(...(children.get(each) ?? []))
  return found
}

function statOf(pid: number): { parent: number; ticks: number } {
  // Behind the name, which may hold anything: the parent is field 4 of proc(5), the times 14 to 17, in ticks of 10 ms.
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const ticks = [11, 12, 13, 14].reduce((sum, field) => sum + Number(fields[field]), 0)
  return { parent: Number(fields[1]), ticks }
}

/** The middle one. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const upper = sorted[middle] ?? 0
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2
}

/** The value that so many of a hundred are not above. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? 0
}

let share = 1

/** Does this share of all work from now on: to try a row out, or on a machine that is slow. */
export function doShare(wanted: number): void {
  share = wanted
}

/** So many times, of the share that is done. */
export function times(count: number): number {
  return Math.max(1, Math.round(count * share))
}
