import type { Command } from 'commander'
import { PawlError } from '../../errors.ts'
import type { CampaignNode, CampaignView } from '../answers.ts'
import { type Api, pathOf } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count, formatAge } from '../format.ts'
import { wholeList } from '../pages.ts'
import {
  campaignCounts,
  campaignState,
  followCampaign,
  nodesOf,
  showCampaign,
} from '../reinstall-progress.ts'

/** Adds `pawl reinstall …`: how the reinstalls that `pawl node reinstall` began stand. */
export function addReinstallCommands(program: Command, context: Context): void {
  const reinstall = program
    .command('reinstall')
    .description('Reinstalls of many nodes: how they stand. They are begun with pawl node reinstall.')
  addList(reinstall, context)
  addShow(reinstall, context)
  addVerb(reinstall, context, 'pause', 'Mark no further node; what is under way goes on.')
  addVerb(reinstall, context, 'resume', 'Go on with a paused one; failures are counted anew.')
  addCancel(reinstall, context)
}

function addList(reinstall: Command, context: Context): void {
  const command = reinstall
    .command('list')
    .description('The latest hundred, the newest first.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await wholeList<CampaignView>(api, '/reinstalls')
        answer(context, page, () => showList(context, page.items))
      }),
    )
  withExamples(command, ['pawl reinstall list'])
}

function showList({ output, io }: Context, campaigns: readonly CampaignView[]): void {
  if (campaigns.length === 0) {
    output.note('no reinstalls of many nodes')
    return
  }
  output.table(
    [
      { title: 'ID', min: 12 },
      { title: 'OF', min: 10 },
      { title: 'STATE', min: 9 },
      { title: 'NODES', min: 12 },
      { title: 'AGO', align: 'right', min: 5 },
    ],
    campaigns.map((view) => [
      view.id,
      view.selection,
      campaignState({ ...view, cause: null }),
      campaignCounts(view),
      formatAge(view.startedAt, io.now()),
    ]),
  )
}

interface ShowFlags {
  readonly watch?: true
  readonly all?: true
}

function addShow(reinstall: Command, context: Context): void {
  const command = reinstall
    .command('show')
    .description(
      'How one stands, with the nodes that are under way or went wrong. With --watch a line for each change, until it is over or paused; exits 1 where a node failed.',
    )
    .argument('<id>', 'its id, as list shows it')
    .option('--all', 'every node')
    .option('--watch', 'follow it')
    .action((id: string, flags: ShowFlags) =>
      withApi(context, async (api) => {
        if (flags.watch === true) return watch(context, api, id)
        const view = await api.get<CampaignView>(`/reinstalls${pathOf(id)}`)
        const nodes = await nodesOf(api, view.id)
        answer(context, { ...view, nodeList: nodes }, () =>
          showCampaign(context, view, flags.all === true ? nodes : nodes.filter(isOfInterest)),
        )
      }),
    )
  withExamples(command, ['pawl reinstall show 6fkH0cTn3JvS', 'pawl reinstall show 6fkH0cTn3JvS --watch'])
}

function isOfInterest({ state }: CampaignNode): boolean {
  return state !== 'waiting' && state !== 'done'
}

/** Follows a reinstall to its end, and says by an error that it did not end well. */
export async function watch(context: Context, api: Api, id: string): Promise<void> {
  const view = await followCampaign(context, api, id)
  if (context.flags().json) context.output.json(view)
  if (view.state === 'running') return
  const { failed } = view.counts
  if (view.state === 'completed' && failed === 0) return
  const reason = view.state === 'completed' ? `${count(failed, 'node')} failed` : `it is ${view.state}`
  throw new PawlError('conflict', `reinstall ${view.id}: ${reason}`, {
    hint: `see pawl reinstall show ${view.id}`,
  })
}

function addVerb(reinstall: Command, context: Context, verb: 'pause' | 'resume', description: string): void {
  const command = reinstall
    .command(verb)
    .description(description)
    .argument('<id>', 'its id, as list shows it')
    .action((id: string) =>
      withApi(context, async (api) => {
        const view = await api.post<CampaignView>(`/reinstalls${pathOf(id)}/${verb}`)
        answer(context, view, () => showCampaign(context, view, []))
      }),
    )
  withExamples(command, [`pawl reinstall ${verb} 6fkH0cTn3JvS`])
}

function addCancel(reinstall: Command, context: Context): void {
  const command = reinstall
    .command('cancel')
    .description(
      'End one: nobody waits any more, and its marks are taken back. A boot that reinstalls a node now goes on. Of more than one node the plan is printed, and nothing done until --yes.',
    )
    .argument('<id>', 'its id, as list shows it')
    .option('--yes', 'do it, however many nodes it is')
    .action((id: string, flags: { yes?: true }) =>
      withApi(context, async (api) => {
        const path = `/reinstalls${pathOf(id)}`
        const now = await api.get<CampaignView>(path)
        const { waiting, marked, serving } = now.counts
        if (flags.yes !== true && now.endedAt === null && waiting + marked + serving > 1) {
          answer(context, { ...now, applied: false }, () => showCampaign(context, now, []))
          context.output.note(
            `nothing was done: add --yes to take out ${count(waiting + marked + serving, 'node')}`,
          )
          return
        }
        const view = await api.post<CampaignView>(`${path}/cancel`)
        answer(context, { ...view, applied: true }, () => showCampaign(context, view, []))
        if (serving > 0)
          context.output.warning(
            `${count(serving, 'node')} ${serving === 1 ? 'is' : 'are'} being reinstalled now, and that goes on`,
          )
      }),
    )
  withExamples(command, ['pawl reinstall cancel 6fkH0cTn3JvS --yes'])
}
