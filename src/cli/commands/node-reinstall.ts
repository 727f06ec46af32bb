import { type Command, InvalidArgumentError } from 'commander'
import { parseNodeName } from '../../domain/node.ts'
import { PawlError } from '../../errors.ts'
import type { ReinstallPlan } from '../answers.ts'
import type { Api } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count } from '../format.ts'
import { type Piece, toned } from '../text.ts'
import { argument, exactlyOne, parseDuration } from '../values.ts'
import { watch } from './reinstall.ts'

interface Flags {
  readonly match?: string
  readonly label?: string
  readonly cancel?: true
  readonly maxParallel?: number
  readonly maxFailures?: number
  readonly expires?: number
  readonly force?: true
  readonly skipFailing?: true
  readonly watch?: true
  readonly yes?: true
}

/** Adds `pawl node reinstall`. */
export function addReinstallCommand(node: Command, context: Context): void {
  const command = node
    .command('reinstall')
    .description(
      "Mark nodes so that their next boot serves the profile's reinstall sequence. One node is marked at once; of more the plan is printed, and nothing done until --yes.",
    )
    .usage('<NAME... | --match GLOB | --label K=V> [options]')
    .argument('[names...]', 'nodes')
    .option('--match <GLOB>', 'all nodes whose name fits: * and ? stand for any characters')
    .option('--label <K=V>', 'all nodes with this label')
    .option('--cancel', 'take the marks back, and whom it waits for out of its reinstall')
    .option('--max-parallel <N>', 'so many at a time; the rest waits', parseCount)
    .option('--max-failures <N>', 'nodes that may fail before no further one is marked', parseCount)
    .option(
      '--expires <TIME>',
      'how long a mark is good for that no boot has served (the setting)',
      parseDuration,
    )
    .option('--force', 'mark nodes too whose last reinstalls all failed')
    .option('--skip-failing', 'leave those out')
    .option('--watch', 'follow it until it is over')
    .option('--yes', 'do it, however many nodes it is')
    .action((names: readonly string[], flags: Flags) =>
      withApi(context, async (api) => {
        const plan = await carryOut(api, names, flags)
        if (flags.watch !== true || plan.campaign === null) {
          answer(context, plan, () => showPlan(context, plan))
          return
        }
        if (context.flags().json !== true) showPlan(context, plan)
        await watch(context, api, plan.campaign.id)
      }),
    )
  withExamples(command, [
    'pawl node reinstall mlab1',
    'pawl node reinstall --label site=lga --max-parallel 10 --yes',
    "pawl node reinstall --match 'mlab*' --cancel",
  ])
}

async function carryOut(api: Api, names: readonly string[], flags: Flags): Promise<ReinstallPlan> {
  const { match, label } = flags
  exactlyOne({ 'NAME...': names.length > 0, '--match': match !== undefined, '--label': label !== undefined })
  const nodes = [...new Set(names.map((name) => argument(name, parseNodeName)))]
  const selected = names.length > 0 ? { nodes } : { match, label }
  const request = {
    ...selected,
    cancel: flags.cancel === true,
    maxParallel: flags.maxParallel,
    maxFailures: flags.maxFailures,
    expiresSeconds: flags.expires,
    force: flags.force,
    skipFailing: flags.skipFailing,
  }
  const ask = (body: object): Promise<ReinstallPlan> => api.post('/reinstall', body)
  if (flags.yes === true || nodes.length === 1) return ask(request)
  const plan = await ask({ ...request, dryRun: true })
  const [only, ...more] = plan.nodes
  if (only === undefined) throw new PawlError('not-found', 'no node is meant by this')
  if (more.length > 0) return plan
  // By its name: another may have come to fit the pattern meanwhile.
  const { match: _match, label: _label, ...rest } = { match, label, ...request }
  return ask({ ...rest, nodes: [only.name] })
}

function showPlan({ output }: Context, { nodes, applied, campaign }: ReinstallPlan): void {
  output.table(
    [
      { title: 'NAME', min: 12 },
      { title: 'REINSTALL', min: 9, drop: 1 },
      { title: applied ? 'NOW' : 'WOULD BE', min: 8 },
      { title: '' },
    ],
    nodes.map((node) => [node.name, node.before, afterOf(node), node.skipped ?? node.warning ?? '']),
  )
  if (campaign !== null) output.line(`follow it with pawl reinstall show ${campaign.id} --watch`)
  if (applied) return
  output.note(`nothing was done: add --yes to change ${count(nodes.length, 'node')}`)
}

function afterOf({ before, after, waits, skipped }: ReinstallPlan['nodes'][number]): Piece {
  if (skipped !== undefined) return toned('dim', 'left out')
  if (waits === true) return 'waits'
  return before === after ? after : toned('warn', after)
}

function parseCount(text: string): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number from 1.')
}
