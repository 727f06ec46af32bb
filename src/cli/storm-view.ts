import type { StormResult } from '../storm/result.ts'
import type { StormView } from '../storm/run.ts'
import type { Totals } from '../storm/totals.ts'
import type { Context } from './context.ts'
import { count, formatSize } from './format.ts'
import type { Output } from './output.ts'
import type { Field } from './table.ts'
import { toned } from './text.ts'

/** Lines in a log come this much apart; a terminal shows each second. */
const plainSeconds = 5

/** Shows how a storm goes on stderr: one line that moves on a terminal, and a line now and then elsewhere. */
export function stormView({ io, output }: Context): StormView & { end(): void } {
  const moving = io.isTTY.stderr
  let open = false
  let toldAt = Number.NEGATIVE_INFINITY
  const end = (): void => {
    if (open) io.stderr.write('\n')
    open = false
  }
  return {
    end,
    step(text) {
      end()
      output.note(text)
    },
    progress(totals, seconds, nodes) {
      const line = lineOf(totals, seconds, nodes)
      if (moving) {
        io.stderr.write(`\r\u001b[K${line.slice(0, (io.columns ?? 80) - 1)}`)
        open = true
      } else if (seconds - toldAt >= plainSeconds) {
        toldAt = seconds
        output.note(line)
      }
    },
  }
}

function lineOf(totals: Totals, seconds: number, nodes: number): string {
  const { begun, ready, bytes, busy, retries } = totals
  const kinds = [...totals.failures].sort(([, a], [, b]) => b - a)
  const failures = kinds.reduce((sum, [, one]) => sum + one, 0)
  const most = kinds[0] === undefined ? '' : ` (most: ${kinds[0][0]})`
  const rate = formatSize(bytes / Math.max(seconds, 1))
  const trouble = `${failures} failures${most}, ${busy} told to wait, ${retries} retries`
  return `${seconds.toFixed(0)} s: ${begun} of ${nodes} on, ${ready} ready, ${rate}/s, ${trouble}`
}

/** Shows what a storm found. */
export function showStorm(output: Output, result: StormResult): void {
  output.fields(fieldsOf(result))
  output.line()
  output.table(
    [
      { title: 'STEP' },
      { title: 'COUNT', align: 'right' },
      { title: 'P50 ms', align: 'right' },
      { title: 'P90 ms', align: 'right' },
      { title: 'P99 ms', align: 'right' },
      { title: 'MAX ms', align: 'right' },
    ],
    result.steps.map(({ step, count, p50, p90, p99, max }) => [
      step,
      String(count),
      ...[p50, p90, p99, max].map((milliseconds) => milliseconds.toFixed(1)),
    ]),
  )
  for (const { node, cause } of result.notReady) output.warning(`${node}: ${cause}`)
  for (const fault of result.truth?.faults ?? []) output.warning(fault)
}

function fieldsOf(result: StormResult): Field[] {
  const { nodes, ready, seconds, slowest, failures, busy, truth } = result
  return [
    { name: 'storm', value: `${result.id}, nodes prove themselves by ${result.evidence}` },
    {
      name: 'ready',
      value: toned(ready === nodes ? 'good' : 'bad', `${ready} of ${nodes} in ${seconds.toFixed(1)} s`),
    },
    { name: 'boots', value: `${result.bootsPerSecond.toFixed(1)} a second` },
    ...(slowest === null
      ? []
      : [{ name: 'slowest', value: `${slowest.seconds.toFixed(1)} s: ${slowest.node}` }]),
    {
      name: 'bytes',
      value: `${formatSize(result.bytes)}, ${formatSize(result.bytesPerSecond)} a second`,
    },
    {
      name: 'failures',
      value:
        Object.keys(failures).length === 0
          ? 'none'
          : Object.entries(failures).map(([kind, number]) => toned('warn', `${number} ${kind}`)),
    },
    { name: 'retries', value: String(result.retries) },
    {
      name: 'told to wait',
      value: busy.answers === 0 ? 'never' : `${busy.answers} times (503), ${busy.seconds} s in all`,
    },
    ...(result.powerCycles === 0 ? [] : [{ name: 'power cycles', value: String(result.powerCycles) }]),
    ...recordsOf(result),
    { name: 'server', value: serverOf(result) },
    { name: 'client', value: clientOf(result) },
    {
      name: 'record',
      value:
        truth === null
          ? toned('warn', 'not read')
          : truth.faultCount === 0
            ? toned('good', `${truth.ready} ready, ${truth.redemptions} tokens used, each once`)
            : toned('bad', `${truth.faultCount} of it do not fit`),
    },
  ]
}

function recordsOf({ records }: StormResult): Field[] {
  if (records === null) return []
  const { largestBytes, honoured } = records
  const text = `to a client that asks for 4096 bytes, as iPXE does: ${largestBytes} at most, with TLS's own`
  return [{ name: 'TLS records', value: honoured ? text : toned('bad', text) }]
}

function serverOf({ server }: StormResult): string {
  if (server === null) return 'not known: name it with --data or --server-pid, where it is on this machine'
  const { source, cpuSeconds, cpuMillisecondsPerBoot, memoryBytes, processes, restarts } = server
  const late = source === 'process' ? '' : ', as it says itself'
  const again = restarts === 0 ? '' : `, started again ${count(restarts, 'time')}`
  return `${cpuSeconds.toFixed(1)} s of CPU, ${cpuMillisecondsPerBoot.toFixed(1)} ms a boot, at most ${formatSize(memoryBytes)} in ${processes === 1 ? 'one process' : `${processes} processes`}${again}${late}`
}

function clientOf({ client, machine }: StormResult): (string | ReturnType<typeof toned>)[] {
  const { processes, cpuSeconds, lagMilliseconds, why } = client
  const own = `${cpuSeconds.toFixed(1)} s of CPU in ${processes === 1 ? 'one process' : `${processes} processes`}, its loop late by ${lagMilliseconds} ms at most`
  const cores = `${machine.cores} cores of this machine busy for ${Math.round(machine.busy * 100)} %`
  return [own, cores, ...(why === null ? [] : [toned('bad', `THE CLIENT WAS THE LIMIT: ${why}`)])]
}
