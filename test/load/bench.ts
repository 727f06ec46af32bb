import { cpus, release, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { type Comparison, type Measured, median } from './measure.ts'
import { tftpComparisons } from './tftp.ts'

/**
 * `npm run bench`: comparisons with programs that ops know, both sides of each in one run on this machine, in turn, with the
 * same client. What counts is the ratio: absolute figures move with the machine's other work. `-- --json` prints one document,
 * `--runs N` measures each side so often (5), `--only WORD` takes the rows whose name has it.
 */
const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    runs: { type: 'string', default: '5' },
    only: { type: 'string', default: '' },
  },
})

const all: readonly Comparison[] = [...tftpComparisons]
const measured: Measured[] = []
for (const comparison of all.filter(({ name }) => name.includes(values.only))) {
  const absent = comparison.absent()
  if (absent === undefined) measured.push(...(await measure(comparison, Number(values.runs))))
  else measured.push({ name: comparison.name, skipped: absent })
}
const machine = `${cpus().length} × ${cpus()[0]?.model}, ${Math.round(totalmem() / 2 ** 30)} GB, Linux ${release()}, Node ${process.versions.node}`
const at = new Date().toISOString().slice(0, 10)
if (values.json) process.stdout.write(`${JSON.stringify({ at, machine, rows: measured }, null, 2)}\n`)
else print()

/** Both sides in turn, so that what else the machine does meanwhile is shared. */
async function measure(comparison: Comparison, runs: number): Promise<Measured[]> {
  const ours: number[][] = []
  const theirs: number[][] = []
  for (let run = 0; run < runs; run += 1) {
    ours.push(await comparison.run('pawl'))
    theirs.push(await comparison.run('other'))
    if (!values.json) process.stderr.write(`${comparison.name}: run ${run + 1} of ${runs}\n`)
  }
  return comparison.rows.map((row, index) => {
    const pawl = ours.map((figures) => figures[index] ?? 0)
    const other = theirs.map((figures) => figures[index] ?? 0)
    return {
      name: `${comparison.name}, ${row}`,
      unit: comparison.unit,
      other: comparison.other,
      pawl: median(pawl),
      otherValue: median(other),
      ratio: median(pawl.map((value, run) => value / (other[run] ?? 1))),
      runs,
    }
  })
}

function print(): void {
  process.stdout.write(`${at}, ${machine}\n\n| | unit | Pawl | other | ratio |\n|---|---|---|---|---|\n`)
  for (const row of measured) {
    const line =
      'skipped' in row
        ? `| ${row.name} | skipped: ${row.skipped} | | | |`
        : `| ${row.name} | ${row.unit} | ${row.pawl.toFixed(1)} | ${row.other} ${row.otherValue.toFixed(1)} | **${row.ratio.toFixed(2)}** |`
    process.stdout.write(`${line}\n`)
  }
}
