import { spawnSync } from 'node:child_process'
import { cpus, release, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { comparisons } from './comparisons.ts'
import { closeLab } from './lab.ts'
import { type Comparison, doShare, type Measured, median } from './measure.ts'
import { type Result, reportJson, reportTable, rowLine } from './result.ts'
import { closeLargeFolder } from './start.ts'

/**
 * `npm run bench`: comparisons with programs that ops know, all sides of each in one run on this machine, in turn, with the
 * same client. What counts is the ratio: absolute figures move with the machine's other work. `-- --json` prints one document,
 * `--runs N` measures each side so often (3), `--only WORD,WORD` takes the comparisons whose name has one of them, `--share 0.1` does a tenth of
 * the work of each row, to try it out.
 *
 * As root all of it runs in a network namespace of its own: dnsmasq serves port 69 only, and thousands of connections need ports.
 */
const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    runs: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
    share: { type: 'string', default: '1' },
    inside: { type: 'boolean', default: false },
  },
})

if (!values.inside && spawnSync('unshare', ['-n', 'true'], { stdio: 'ignore' }).status === 0) {
  const again = [...process.execArgv, ...process.argv.slice(1), '--inside']
  const done = spawnSync('unshare', ['-n', process.execPath, ...again], { stdio: 'inherit' })
  process.exitCode = done.status ?? 1
} else {
  if (values.inside) spawnSync('ip', ['link', 'set', 'lo', 'up'], { stdio: 'inherit' })
  await runAll()
  process.exit() // PostgreSQL, where one was started, ends with the process
}

async function runAll(): Promise<void> {
  doShare(Number(values.share))
  const words = values.only.split(',')
  const chosen = comparisons.filter(({ name }) => words.some((word) => name.includes(word)))
  const results: Result[] = []
  try {
    for (const comparison of chosen) results.push(await resultOf(comparison))
  } finally {
    await closeLab()
    await closeLargeFolder()
  }
  const machine = `${cpus().length} × ${cpus()[0]?.model}, ${Math.round(totalmem() / 2 ** 30)} GB, Linux ${release()}, Node ${process.versions.node}`
  const head = { at: new Date().toISOString().slice(0, 10), machine }
  process.stdout.write(values.json ? reportJson(head, results) : reportTable(head, results))
}

/** A comparison that breaks is told by name, and the others are made. */
async function resultOf(comparison: Comparison): Promise<Result> {
  const absent = comparison.absent()
  if (absent !== undefined) return { name: comparison.name, skipped: absent }
  const began = performance.now()
  try {
    const rows = await measure(comparison, Number(values.runs))
    const seconds = Math.round((performance.now() - began) / 1000)
    process.stderr.write(`${rows.map(rowLine).join('\n')}\n${comparison.name}: ${seconds} s\n`)
    return { name: comparison.name, rows }
  } catch (error) {
    process.exitCode = 1
    const failed = error instanceof Error ? (error.stack ?? error.message) : String(error)
    process.stderr.write(`${comparison.name}: ${failed}\n`)
    return { name: comparison.name, failed }
  }
}

/** All sides in turn, each round in the other order, so that what else the machine does meanwhile is shared. */
async function measure(comparison: Comparison, runs: number): Promise<Measured[]> {
  const figures = new Map<string, number[]>()
  const key = (side: string, row: number): string => `${row} ${side}`
  const sidesOf = (row: number): readonly string[] => comparison.rows[row]?.sides ?? comparison.sides
  const opened = await comparison.open()
  try {
    for (let run = 0; run < runs; run += 1) {
      for (const row of comparison.rows.keys()) {
        const sides = run % 2 === 0 ? sidesOf(row) : sidesOf(row).toReversed()
        for (const side of sides) {
          const known = figures.get(key(side, row)) ?? []
          figures.set(key(side, row), [...known, await opened.run(side, row)])
        }
      }
      process.stderr.write(`${comparison.name}: run ${run + 1} of ${runs}\n`)
    }
  } finally {
    await opened.close()
  }
  return comparison.rows.flatMap((_, row) => {
    const [ours = '', ...others] = sidesOf(row)
    const figuresOf = (side: string): number[] => figures.get(key(side, row)) ?? []
    return measuredRows(
      comparison,
      row,
      figuresOf(ours),
      others.map((name) => [name, figuresOf(name)] as const),
      runs,
    )
  })
}

/** One row for each other side; the target is that of the first. */
function measuredRows(
  { name, unit, better, rows }: Comparison,
  row: number,
  ours: readonly number[],
  others: readonly (readonly [string, readonly number[]])[],
  runs: number,
): Measured[] {
  const { name: rowName = '', target } = rows[row] ?? {}
  const pawl = median(ours)
  const base = { name: `${name}: ${rowName}`, unit, better, pawl, runs }
  const met = (value: number, bound: number): boolean => (better === 'more' ? value >= bound : value <= bound)
  if (others.length === 0)
    return [{ ...base, ...(target === undefined ? {} : { target, met: met(pawl, target.bound) }) }]
  return others.map(([otherName, theirs], index) => {
    const ratio = median(ours.map((value, run) => value / (theirs[run] ?? 1)))
    const other = { name: otherName, value: median(theirs), ratio }
    if (target === undefined || index > 0) return { ...base, other }
    return { ...base, other, target, met: met(target.of === 'ratio' ? ratio : pawl, target.bound) }
  })
}
