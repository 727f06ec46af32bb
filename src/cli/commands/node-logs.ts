import type { Command } from 'commander'
import { PawlError } from '../../errors.ts'
import type { NodeLogs } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count, formatTime } from '../format.ts'
import type { Output } from '../output.ts'
import { toned } from '../text.ts'
import { argument, nodePath } from '../values.ts'

const usualLines = 40

/** Adds `pawl node logs`. */
export function addLogsCommand(node: Command, context: Context): void {
  const command = node
    .command('logs')
    .description('The last lines that a node sent of its consoles when its boot failed.')
    .argument('<name>', 'the node')
    .option('--session <ID>', 'an earlier boot session')
    .option('--lines <N>', `of each console; without it the last ${usualLines}`, (text: string) =>
      argument(text, parseLines),
    )
    .action((name: string, flags: { session?: string; lines?: number }) =>
      withApi(context, async (api) => {
        const { session, lines = usualLines } = flags
        const logs = await api.get<NodeLogs>(`${nodePath(name)}/logs`, { session, lines: String(lines) })
        answer(context, logs, () => showLogs(context.output, logs))
      }),
    )
  withExamples(command, ['pawl node logs mlab1', 'pawl node logs mlab1 --session 6fkH0cTn3JvS --lines 500'])
}

function parseLines(text: string): number {
  if (!/^[1-9]\d{0,4}$/.test(text)) throw new PawlError('usage', 'lines are counted from 1 to 99999')
  return Number(text)
}

function showLogs(output: Output, { node, session, logs }: NodeLogs): void {
  if (session === null) output.line(`node "${node}" has not booted yet`)
  else if (logs.length === 0)
    output.line(`boot session ${session} of "${node}" sent nothing: agents send their console when they fail`)
  for (const [index, { stage, at, text, before }] of logs.entries()) {
    if (index > 0) output.line()
    const left = before === 0 ? '' : `, ${count(before, 'line')} before it`
    output.line(toned('strong', stage), toned('dim', `  sent ${formatTime(at)}${left}`))
    // Each line by itself: `printable` shows whatever could move the cursor as a question mark.
    for (const line of text.replace(/\n$/, '').split('\n')) output.line(line)
  }
}
