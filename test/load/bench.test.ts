import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { comparisons } from './comparisons.ts'
import { cpuSeconds, median, memoryKB, percentile, treeOf } from './measure.ts'
import { countRecords } from './records.ts'
import { reportJson, reportTable } from './result.ts'

t.test(
  'every row of the bench is in docs/performance.md, and every target of it as the bench has it',
  async (t) => {
    const docs = readFileSync(join(import.meta.dirname, '../../docs/performance.md'), 'utf8')
    for (const { name, rows, better } of comparisons) {
      for (const { name: row, target } of rows) {
        const line = docs.split('\n').find((one) => one.startsWith(`| ${name}: ${row} |`))
        t.ok(line, `${name}: ${row}`)
        const sign = better === 'more' ? '≥' : '≤'
        if (target !== undefined) t.match(line, `${sign} ${target.bound}${target.of === 'ratio' ? '×' : ''}`)
      }
    }
  },
)

t.test('no two comparisons have one name, and each row has its sides', async (t) => {
  t.equal(new Set(comparisons.map(({ name }) => name)).size, comparisons.length)
  for (const { sides, rows } of comparisons) {
    t.equal(sides[0], 'Pawl')
    for (const row of rows)
      for (const side of row.sides ?? sides) t.ok(sides.includes(side), `${row.name}: ${side}`)
  }
})

t.test('CPU and memory are those of a process and all below it', async (t) => {
  // A shell whose child burns, and ends: its time must not be lost with it.
  const burn = 'let x = 0; const end = Date.now() + 300; while (Date.now() < end) x++'
  const script = `"${process.execPath}" -e '${burn}'; echo burnt; read line`
  const shell = spawn('sh', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  const pid = shell.pid ?? 0
  await once(createInterface({ input: shell.stdout }), 'line')
  t.ok(cpuSeconds(pid) >= 0.02, `${cpuSeconds(pid)} s, of the child that ended`)
  t.ok(memoryKB(pid) > 0)
  t.ok(memoryKB(process.pid) > memoryKB(pid), 'ours has the shell in it')
  t.ok(treeOf(process.pid).includes(pid))
  shell.stdin.end('\n')
  await once(shell, 'close')
})

t.test('the middle one, and the one that so many are not above', async (t) => {
  t.equal(median([3, 1, 2]), 2)
  t.equal(median([4, 1, 2, 3]), 2.5)
  t.equal(percentile([5, 1, 4, 2, 3], 99), 5)
  t.equal(
    percentile(
      Array.from({ length: 200 }, (_, index) => index + 1),
      99,
    ),
    198,
  )
  t.equal(percentile([7], 50), 7)
})

t.test('records are counted however their bytes are cut', async (t) => {
  const record = (type: number, bytes: number): Buffer =>
    Buffer.concat([Buffer.from([type, 3, 3, bytes >> 8, bytes & 255]), Buffer.alloc(bytes, 23)])
  // A handshake of 9000 bytes is no record of application data.
  const stream = Buffer.concat([
    record(22, 9000),
    record(23, 4120),
    record(23, 1),
    record(21, 26),
    record(23, 4119),
  ])
  for (const step of [1, 3, 4, 5, 6, 4096, stream.length]) {
    const counter = countRecords()
    for (let at = 0; at < stream.length; at += step) counter.take(stream.subarray(at, at + step))
    t.same([counter.count(), counter.largest()], [3, 4120], `${step} at a time`)
  }
})

t.test('a result says what was reached, what was not, and what was not measured', async (t) => {
  const head = { at: '2026-11-21', machine: 'a machine' }
  const base = { unit: 'GB', better: 'more', runs: 3 } as const
  const other = { name: 'nginx', value: 1, ratio: 1.5 }
  const results = [
    {
      name: 'bytes',
      rows: [
        { ...base, name: 'bytes: one', pawl: 1.5, other, target: { of: 'ratio', bound: 1.2 }, met: true },
        { ...base, name: 'bytes: two', pawl: 123.4, target: { of: 'value', bound: 200 }, met: false },
      ],
    },
    { name: 'other', skipped: 'nginx is not installed' },
    { name: 'broken', failed: 'Error: no answer\n    at line' },
  ] as const
  t.equal(
    reportTable(head, results),
    `2026-11-21, a machine

| | unit | Pawl | beside it | ratio | to reach |
|---|---|---|---|---|---|
| bytes: one | GB | 1.50 | nginx 1.00 | **1.50** | ≥ 1.2×: yes |
| bytes: two | GB | 123 |  |  | ≥ 200: **no** |
| other | | skipped: nginx is not installed | | | |
| broken | | failed: Error: no answer | | | |
`,
  )
  t.same(JSON.parse(reportJson(head, results)), { ...head, comparisons: results })
})
