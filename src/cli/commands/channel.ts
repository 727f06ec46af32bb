import type { Command } from 'commander'
import type { ChangedChannel, ChannelHistory, ChannelView } from '../answers.ts'
import { pathOf } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatAge, formatTime } from '../format.ts'
import { wholeList } from '../pages.ts'
import { showProposed } from '../proposed.ts'
import { operatorName, toned } from '../text.ts'
import { argument, ifRevision, type RevisionFlag } from '../values.ts'

interface WhyFlag {
  readonly why?: string
}

interface ProtectFlags {
  readonly twoPerson?: boolean
  readonly requireTest?: boolean
}

/** Adds `pawl channel …`. */
export function addChannelCommands(program: Command, context: Context): void {
  const channel = program
    .command('channel')
    .description(
      'Names for versions of an image that move: worker/stable. Boots under way keep what they have.',
    )
  addSet(channel, context)
  addRollback(channel, context)
  addList(channel, context)
  addHistory(channel, context)
  addProtect(channel, context)
}

function addSet(channel: Command, context: Context): void {
  const command = channel
    .command('set')
    .description('Point a channel at a version: boots that begin from now on get it. A new channel is made.')
    .argument('<name/channel>', 'the channel')
    .argument('<version>', 'a published version of the image')
    .option('--why <TEXT>', 'for the history')
    .addOption(ifRevision())
    .action((text: string, version: string, { why, ifRevision: revision }: WhyFlag & RevisionFlag) =>
      withApi(context, async (api) => {
        const moved = await api.put<ChangedChannel>(await channelPath(text), { version, why }, { revision })
        answer(context, moved, () => showMoved(context, moved))
      }),
    )
  withExamples(command, [
    'pawl channel set worker/stable 2026.11',
    "pawl channel set worker/stable 2026.12 --why 'kernel 6.12'",
  ])
}

function addRollback(channel: Command, context: Context): void {
  const command = channel
    .command('rollback')
    .description('Point a channel back at the version before. Again: one more back.')
    .argument('<name/channel>', 'the channel')
    .option('--why <TEXT>', 'for the history')
    .addOption(ifRevision())
    .action((text: string, { why, ifRevision: revision }: WhyFlag & RevisionFlag) =>
      withApi(context, async (api) => {
        const moved = await api.create<ChangedChannel>(
          `${await channelPath(text)}/rollback`,
          { why },
          { revision },
        )
        answer(context, moved, () => showMoved(context, moved))
      }),
    )
  withExamples(command, ["pawl channel rollback worker/stable --why 'nodes lose their NIC'"])
}

function addList(channel: Command, context: Context): void {
  const command = channel
    .command('list')
    .description('Channels by name, with the versions they point at.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await wholeList<ChannelView>(api, '/channels')
        answer(context, page, () => showList(context, page.items))
      }),
    )
  withExamples(command, ['pawl channel list'])
}

function addHistory(channel: Command, context: Context): void {
  const command = channel
    .command('history')
    .description('Where a channel has pointed, the latest first: who moved it, when, and why.')
    .argument('<name/channel>', 'the channel')
    .action((text: string) =>
      withApi(context, async (api) => {
        const history = await api.get<ChannelHistory>(await channelPath(text))
        answer(context, history, () => showHistory(context, history))
      }),
    )
  withExamples(command, ['pawl channel history worker/stable'])
}

function addProtect(channel: Command, context: Context): void {
  const command = channel
    .command('protect')
    .description("Change a channel's rules. A new channel is made; it points at nothing until it is set.")
    .argument('<name/channel>', 'the channel')
    .option('--two-person', 'a move that one proposes another must approve')
    .option('--no-two-person', 'one is enough')
    .option('--require-test', 'only versions whose last test boot passed')
    .option('--no-require-test', 'any version')
    .addOption(ifRevision())
    .action((text: string, { twoPerson, requireTest, ifRevision: revision }: ProtectFlags & RevisionFlag) =>
      withApi(context, async (api) => {
        const path = `${await channelPath(text)}/rules`
        const view = await api.put<ChannelView>(path, { twoPerson, requireTest }, { revision })
        answer(context, view, () => context.output.line(`channel ${view.channel}: ${rulesOf(view)}`))
      }),
    )
  withExamples(command, ['pawl channel protect worker/stable --two-person --require-test'])
}

/** A channel's path in the API. */
async function channelPath(text: string): Promise<string> {
  const { parseChannelRef } = await import('../../domain/channel.ts') // schemas take time to load: only who needs them waits
  const { name, channel } = argument(text, parseChannelRef)
  return `/channels${pathOf(name, channel)}`
}

function showMoved({ output }: Context, moved: ChangedChannel): void {
  if (moved.proposal !== null) showProposed(output, moved.proposal)
  else if (moved.changed) output.line(`channel ${moved.channel} is at ${moved.version}`)
  else output.line(`channel ${moved.channel} is at ${moved.version} already`)
}

function showList({ output, io }: Context, channels: readonly ChannelView[]): void {
  if (channels.length === 0) {
    output.note('no channels')
    return
  }
  output.table(
    [
      { title: 'CHANNEL', min: 16 },
      { title: 'VERSION', min: 8 },
      { title: 'DIGEST', min: 12, drop: 1 },
      { title: 'RULES', min: 10, drop: 3 },
      { title: 'ROLLOUT', min: 12, drop: 4 },
      { title: 'AGO', align: 'right', min: 6, drop: 2 },
    ],
    channels.map((view) => [
      view.channel,
      view.version ?? toned('warn', 'none'),
      view.digest?.slice(0, 12) ?? '',
      rulesOf(view),
      view.rollout ?? '',
      formatAge(view.updatedAt, io.now()),
    ]),
  )
}

function showHistory({ output }: Context, { moves, ...view }: ChannelHistory): void {
  output.fields([
    { name: 'channel', value: toned('strong', view.channel) },
    { name: 'version', value: view.version ?? 'none yet' },
    { name: 'rules', value: rulesOf(view) },
  ])
  if (moves.length === 0) return
  output.line()
  output.table(
    [
      { title: 'AT', min: 20 },
      { title: 'VERSION', min: 8 },
      { title: 'BEFORE', min: 8, drop: 2 },
      { title: 'HOW', min: 8, drop: 1 },
      { title: 'BY', min: 8, drop: 4 },
      { title: 'WHY', drop: 3 },
    ],
    moves.map(({ at, version, before, how, by, approvedBy, why }) => [
      formatTime(at),
      version,
      before ?? '',
      how,
      operatorName(by) + (approvedBy === null ? '' : `, approved by ${operatorName(approvedBy)}`),
      why ?? '',
    ]),
  )
}

function rulesOf({ twoPerson, requireTest }: ChannelView): string {
  const rules = [...(twoPerson ? ['two persons'] : []), ...(requireTest ? ['tested'] : [])]
  return rules.length === 0 ? 'none' : rules.join(', ')
}
