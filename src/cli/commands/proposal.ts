import type { Command } from 'commander'
import type { ProposalView } from '../answers.ts'
import { pathOf } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatAge, formatTime } from '../format.ts'
import { wholeList } from '../pages.ts'
import { operatorName, type Tone, toned } from '../text.ts'

/** Adds `pawl proposal …`. */
export function addProposalCommands(program: Command, context: Context): void {
  const proposal = program.command('proposal').description('Changes that wait for a second person.')
  addList(proposal, context)
  addShow(proposal, context)
  addDecision(proposal, context, 'approve', 'Make a proposed change. Not by whoever proposed it.')
  addDecision(proposal, context, 'reject', 'Turn a proposed change down, or take back your own.')
}

function addList(proposal: Command, context: Context): void {
  const command = proposal
    .command('list')
    .description('Changes that wait, the newest first.')
    .option('--all', 'decided and expired ones too')
    .action(({ all }: { all?: true }) =>
      withApi(context, async (api) => {
        const query = all === true ? { all: 'true' } : {}
        const page = await wholeList<ProposalView>(api, '/proposals', query)
        answer(context, page, () => showList(context, page.items))
      }),
    )
  withExamples(command, ['pawl proposal list', 'pawl proposal list --all'])
}

function addShow(proposal: Command, context: Context): void {
  const command = proposal
    .command('show')
    .description('All about a proposed change: what will be done, word for word.')
    .argument('<id>', 'the proposal')
    .action((id: string) =>
      withApi(context, async (api) => {
        const view = await api.get<ProposalView>(`/proposals${pathOf(id)}`)
        answer(context, view, () => show(context, view))
      }),
    )
  withExamples(command, ['pawl proposal show 6fkH0cTn3JvS'])
}

function addDecision(
  proposal: Command,
  context: Context,
  verb: 'approve' | 'reject',
  description: string,
): void {
  const command = proposal
    .command(verb)
    .description(description)
    .argument('<id>', 'the proposal')
    .action((id: string) =>
      withApi(context, async (api) => {
        const view = await api.post<ProposalView>(`/proposals${pathOf(id)}/${verb}`)
        answer(context, view, () =>
          context.output.line(`proposal ${view.id} (${view.kind} ${view.subject}) is ${view.state}`),
        )
      }),
    )
  withExamples(command, [`pawl proposal ${verb} 6fkH0cTn3JvS`])
}

const tones: Readonly<Record<ProposalView['state'], Tone>> = {
  waiting: 'warn',
  approved: 'good',
  rejected: 'bad',
  expired: 'bad',
}

function showList({ output, io }: Context, proposals: readonly ProposalView[]): void {
  if (proposals.length === 0) {
    output.note('nothing waits for a second person')
    return
  }
  output.table(
    [
      { title: 'ID', min: 12 },
      { title: 'KIND', min: 9, drop: 2 },
      { title: 'SUBJECT', min: 18 },
      { title: 'CHANGE', min: 18, drop: 4 },
      { title: 'BY', min: 8, drop: 3 },
      { title: 'STATE', min: 8, drop: 5 },
      { title: 'AGO', align: 'right', min: 6, drop: 1 },
    ],
    proposals.map((view) => [
      view.id,
      view.kind,
      view.subject,
      changeOf(view),
      operatorName(view.proposedBy),
      toned(tones[view.state], view.state),
      formatAge(view.proposedAt, io.now()),
    ]),
  )
}

function show({ output }: Context, view: ProposalView): void {
  output.fields([
    { name: 'proposal', value: toned('strong', view.id) },
    { name: 'what', value: `${view.kind} ${view.subject}` },
    { name: 'why', value: view.why ?? 'it does not say' },
    { name: 'by', value: `${operatorName(view.proposedBy)}, ${formatTime(view.proposedAt)}` },
    { name: 'state', value: toned(tones[view.state], view.state) },
    ...(view.decidedAt === null
      ? [{ name: 'expires', value: formatTime(view.expiresAt) }]
      : [
          {
            name: 'decided',
            value: `${view.decidedBy === null ? 'by time' : operatorName(view.decidedBy)}, ${formatTime(view.decidedAt)}`,
          },
        ]),
  ])
  output.line()
  for (const line of JSON.stringify(view.document, null, 2).split('\n')) output.line(line)
}

function changeOf({ document }: ProposalView): string {
  const { before, version } = document
  return typeof version === 'string' ? `${typeof before === 'string' ? before : 'none'} -> ${version}` : ''
}
