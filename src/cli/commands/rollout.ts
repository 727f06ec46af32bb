import { type Command, InvalidArgumentError } from 'commander'
import { PawlError } from '../../errors.ts'
import type { PlannedRollout, RolloutView } from '../answers.ts'
import { type Api, pathOf } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count, formatAge, formatTime } from '../format.ts'
import { wholeList } from '../pages.ts'
import { showProposed } from '../proposed.ts'
import { operatorName, type Tone, toned } from '../text.ts'
import { parseDuration } from '../values.ts'

interface StartFlags {
  readonly waves: string
  readonly label?: string
  readonly threshold?: number
  readonly minBoots?: number
  readonly maxFailures?: number
  readonly waveTimeout?: number
  readonly why?: string
  readonly yes?: true
}

/** Adds `pawl rollout …`. */
export function addRolloutCommands(program: Command, context: Context): void {
  const rollout = program
    .command('rollout')
    .description(
      'Give a version to more and more nodes, each at its next boot, and stop by itself when they fail.',
    )
  addStart(rollout, context)
  addStatus(rollout, context)
  addList(rollout, context)
  addVerb(rollout, context, 'pause', 'Give the version to no further node; those that have it keep it.')
  addVerb(rollout, context, 'resume', "Go on with a paused rollout; its wave's time begins anew.")
  addVerb(rollout, context, 'abort', "End a rollout: every node's next boot is of the version before.")
}

function addStart(rollout: Command, context: Context): void {
  const command = rollout
    .command('start')
    .description(
      'Roll a version out to the nodes that follow a channel. The channel itself moves when the last wave has passed. The plan is printed, and nothing done until --yes, when it is more than one node.',
    )
    .argument('<name/channel>', 'the channel')
    .argument('<version>', 'a published version of the image')
    .requiredOption('--waves <LIST>', 'how many nodes have it after each wave: 1,10%,50%,100%')
    .option('--label <K=V>', 'only nodes with this label are in the waves; the others wait for the channel')
    .option('--threshold <PERCENT>', 'boots that must succeed, of all so far (95)', parseCount)
    .option(
      '--min-boots <N>',
      'nodes of a wave that must have booted before the next (half of them)',
      parseCount,
    )
    .option('--max-failures <N>', 'nodes that may fail in all (what the threshold allows)', parseCount)
    .option(
      '--wave-timeout <TIME>',
      'a wave that has not passed by then pauses the rollout (7d)',
      parseDuration,
    )
    .option('--why <TEXT>', 'for the history')
    .option('--yes', 'do it, however many nodes it is')
    .action((channel: string, version: string, flags: StartFlags) =>
      withApi(context, async (api) => {
        const planned = await start(api, channel, version, flags)
        answer(context, planned, () => showPlanned(context, planned))
      }),
    )
  withExamples(command, [
    'pawl rollout start worker/stable 2026.12 --waves 1,10%,50%,100% --yes',
    'pawl rollout start worker/stable 2026.12 --waves 1,100% --label site=lga',
  ])
}

async function start(
  api: Api,
  channel: string,
  version: string,
  { waves, yes, ...flags }: StartFlags,
): Promise<PlannedRollout> {
  const asked = {
    channel,
    version,
    waves: waves.split(',').map((wave) => wave.trim()),
    label: flags.label,
    thresholdPercent: flags.threshold,
    minBoots: flags.minBoots,
    maxFailures: flags.maxFailures,
    waveTimeoutSeconds: flags.waveTimeout,
    why: flags.why,
  }
  if (yes !== true) {
    const planned = await api.post<PlannedRollout>('/rollouts', { ...asked, dryRun: true })
    if ((planned.plan.waves.at(-1)?.nodes ?? 0) + planned.outside > 1) return planned
  }
  return api.create<PlannedRollout>('/rollouts', asked)
}

function addStatus(rollout: Command, context: Context): void {
  const command = rollout
    .command('status')
    .description('How a rollout stands, wave by wave.')
    .argument('<id|name/channel>', 'the rollout, or the channel whose latest it is')
    .action((text: string) =>
      withApi(context, async (api) => {
        const view = await find(api, text)
        answer(context, view, () => show(context, view))
      }),
    )
  withExamples(command, ['pawl rollout status worker/stable'])
}

function addList(rollout: Command, context: Context): void {
  const command = rollout
    .command('list')
    .description('Rollouts, the newest first.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await wholeList<RolloutView>(api, '/rollouts')
        answer(context, page, () => showList(context, page.items))
      }),
    )
  withExamples(command, ['pawl rollout list'])
}

function addVerb(
  rollout: Command,
  context: Context,
  verb: 'pause' | 'resume' | 'abort',
  description: string,
): void {
  const command = rollout
    .command(verb)
    .description(description)
    .argument('<id|name/channel>', 'the rollout, or the channel whose latest it is')
    .action((text: string) =>
      withApi(context, async (api) => {
        const { id } = await find(api, text)
        const view = await api.post<RolloutView>(`/rollouts${pathOf(id)}/${verb}`)
        answer(context, view, () => show(context, view))
      }),
    )
  withExamples(command, [`pawl rollout ${verb} worker/stable`])
}

/** By id, or the latest of a channel. */
async function find(api: Api, text: string): Promise<RolloutView> {
  if (!text.includes('/')) return api.get<RolloutView>(`/rollouts${pathOf(text)}`)
  const { items } = await wholeList<RolloutView>(api, '/rollouts')
  const latest = items.find((view) => view.channel === text)
  if (latest !== undefined) return latest
  throw new PawlError('not-found', `channel "${text}" has had no rollout`, {
    hint: 'list them with pawl rollout list',
  })
}

function showPlanned(context: Context, planned: PlannedRollout): void {
  const { output } = context
  if (planned.proposal !== null) showProposed(output, planned.proposal)
  else if (planned.rollout !== null) show(context, planned.rollout)
  else showPlan(context, planned)
}

function showPlan({ output }: Context, planned: PlannedRollout): void {
  const { channel, version, before, plan, outside } = planned
  output.line(`channel ${channel}: ${before} -> ${version}`)
  output.table(
    [{ title: 'WAVE', align: 'right' }, { title: 'SIZE' }, { title: 'NODES', align: 'right' }],
    plan.waves.map(({ written, nodes }, index) => [String(index + 1), written, String(nodes)]),
  )
  const last = plan.waves.at(-1)?.nodes ?? 0
  output.line(
    outside === 0
      ? 'then the channel moves'
      : `then the channel moves, and ${count(outside, 'more node')} ${outside === 1 ? 'gets' : 'get'} it`,
  )
  output.note(`nothing was done: add --yes to begin with ${count(last + outside, 'node')}`)
}

const tones: Readonly<Record<RolloutView['state'], Tone>> = {
  running: 'plain',
  paused: 'warn',
  halted: 'bad',
  aborted: 'bad',
  completed: 'good',
}

function show({ output }: Context, view: RolloutView): void {
  output.fields([
    { name: 'rollout', value: toned('strong', view.id) },
    { name: 'channel', value: `${view.channel}: ${view.before} -> ${view.version}` },
    {
      name: 'state',
      value: toned(tones[view.state], view.cause === null ? view.state : `${view.state}: ${view.cause}`),
    },
    {
      name: 'by',
      value: `${operatorName(view.by)}${view.approvedBy === null ? '' : `, approved by ${operatorName(view.approvedBy)}`}, ${formatTime(view.startedAt)}`,
    },
    { name: 'why', value: view.why ?? 'it does not say' },
    { name: 'failures', value: `${view.failed.length}, of which ${view.allowedFailures} may be so far` },
    ...(view.failed.length === 0 ? [] : [{ name: 'failed', value: view.failed.slice(0, 20) }]),
  ])
  output.line()
  output.table(
    [
      { title: 'WAVE', align: 'right' },
      { title: 'SIZE' },
      { title: 'NODES', align: 'right', drop: 4 },
      { title: 'NEEDED', align: 'right', drop: 1 },
      { title: 'WAITING', align: 'right', drop: 3 },
      { title: 'BOOTING', align: 'right', drop: 2 },
      { title: 'READY', align: 'right' },
      { title: 'FAILED', align: 'right' },
      { title: '' },
    ],
    view.waves.map(({ wave, written, nodes, needed, counts }) => [
      String(wave),
      written,
      ...[nodes, needed, counts.waiting, counts.booting, counts.succeeded].map(String),
      counts.failed === 0 ? '0' : toned('bad', String(counts.failed)),
      wave === view.wave && view.endedAt === null ? 'now' : '',
    ]),
  )
}

function showList({ output, io }: Context, rollouts: readonly RolloutView[]): void {
  if (rollouts.length === 0) {
    output.note('no rollouts')
    return
  }
  output.table(
    [
      { title: 'ID', min: 12 },
      { title: 'CHANNEL', min: 12 },
      { title: 'CHANGE', min: 20, drop: 3 },
      { title: 'STATE', min: 9 },
      { title: 'WAVE', min: 5, drop: 2 },
      { title: 'AGO', align: 'right', min: 6, drop: 1 },
    ],
    rollouts.map((view) => [
      view.id,
      view.channel,
      `${view.before} -> ${view.version}`,
      toned(tones[view.state], view.state),
      `${view.wave}/${view.waves.length}`,
      formatAge(view.startedAt, io.now()),
    ]),
  )
}

function parseCount(text: string): number {
  if (/^(0|[1-9]\d{0,5})%?$/.test(text)) return Number(text.replace('%', ''))
  throw new InvalidArgumentError('It must be a whole number.')
}
