import type { Measured } from './measure.ts'

/** What became of a comparison. */
export type Result =
  | { readonly name: string; readonly rows: readonly Measured[] }
  | { readonly name: string; readonly skipped: string }
  | { readonly name: string; readonly failed: string }

/** When, and on what. */
export interface ReportHead {
  readonly at: string
  readonly machine: string
}

/** One document for machines. */
export function reportJson(head: ReportHead, results: readonly Result[]): string {
  return `${JSON.stringify({ ...head, comparisons: results }, null, 2)}\n`
}

/** The table of docs/performance.md. */
export function reportTable({ at, machine }: ReportHead, results: readonly Result[]): string {
  const lines = results.flatMap((result) => {
    if ('skipped' in result) return [`| ${result.name} | | skipped: ${result.skipped} | | | |`]
    if ('failed' in result) return [`| ${result.name} | | failed: ${result.failed.split('\n')[0]} | | | |`]
    return result.rows.map(rowLine)
  })
  const head = '| | unit | Pawl | beside it | ratio | to reach |\n|---|---|---|---|---|---|'
  return `${at}, ${machine}\n\n${head}\n${lines.join('\n')}\n`
}

/** A row of it. */
export function rowLine({ name, unit, better, pawl, other, target, met }: Measured): string {
  const beside = other === undefined ? '' : `${other.name} ${figure(other.value)}`
  const ratio = other === undefined ? '' : `**${other.ratio.toFixed(2)}**`
  const bound =
    target === undefined
      ? ''
      : `${better === 'more' ? '≥' : '≤'} ${target.bound}${target.of === 'ratio' ? '×' : ''}: ${met ? 'yes' : '**no**'}`
  return `| ${name} | ${unit} | ${figure(pawl)} | ${beside} | ${ratio} | ${bound} |`
}

/** Three digits that count. */
function figure(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3)
}
