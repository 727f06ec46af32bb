import type { Command } from 'commander'
import type { ChangedNode, RefusedFactsView } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatTime } from '../format.ts'
import { toned } from '../text.ts'
import { nodePath } from '../values.ts'

/** Adds `pawl node accept-facts`. */
export function addFactsCommand(node: Command, context: Context): void {
  const command = node
    .command('accept-facts')
    .description(
      'What a node was refused for because its UUID, serial number or MAC address changed; with --yes it is accepted, and registered where something was.',
    )
    .argument('<name>', 'the node')
    .option('--yes', 'accept exactly this')
    .action((name: string, flags: { yes?: true }) =>
      withApi(context, async (api) => {
        const refused = await api.get<RefusedFactsView>(`${nodePath(name)}/refused-facts`)
        if (flags.yes !== true) {
          answer(context, { ...refused, accepted: false }, () => showRefused(context, refused))
          return
        }
        const { refusedAt } = refused
        const changed = await api.post<ChangedNode>(`${nodePath(name)}/accept-facts`, { refusedAt })
        answer(context, { ...refused, accepted: true }, () => {
          showRefused(context, refused)
          context.output.line(`node "${changed.name}" boots with these facts from now on`)
        })
        for (const warning of changed.warnings) context.output.warning(warning)
      }),
    )
  withExamples(command, ['pawl node accept-facts mlab1', 'pawl node accept-facts mlab1 --yes'])
}

function showRefused({ output }: Context, { source, refusedAt, changes }: RefusedFactsView): void {
  output.line(`refused ${formatTime(refusedAt)}, asking from ${source}`)
  output.table(
    [{ title: 'FACT', min: 6 }, { title: 'BEFORE' }, { title: 'NOW' }],
    changes.map(({ fact, before, now }) => [fact, before ?? 'none', toned('warn', now ?? 'not told')]),
  )
}
