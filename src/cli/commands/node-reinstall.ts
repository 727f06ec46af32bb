import type { Command } from 'commander'
import { parseNodeName } from '../../domain/node.ts'
import { PawlError } from '../../errors.ts'
import type { ReinstallPlan } from '../answers.ts'
import type { Api } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count } from '../format.ts'
import { toned } from '../text.ts'
import { argument, exactlyOne } from '../values.ts'

interface Flags {
  readonly match?: string
  readonly label?: string
  readonly cancel?: true
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
    .option('--cancel', 'take the marks back')
    .option('--yes', 'do it, however many nodes it is')
    .action((names: readonly string[], flags: Flags) =>
      withApi(context, async (api) => {
        const plan = await carryOut(api, names, flags)
        answer(context, plan, () => showPlan(context, plan))
      }),
    )
  withExamples(command, [
    'pawl node reinstall mlab1',
    'pawl node reinstall --label site=lga --yes',
    "pawl node reinstall --match 'mlab*' --cancel",
  ])
}

async function carryOut(api: Api, names: readonly string[], flags: Flags): Promise<ReinstallPlan> {
  const { match, label } = flags
  exactlyOne({ 'NAME...': names.length > 0, '--match': match !== undefined, '--label': label !== undefined })
  const nodes = [...new Set(names.map((name) => argument(name, parseNodeName)))]
  const selected = names.length > 0 ? { nodes } : { match, label }
  const request = { ...selected, cancel: flags.cancel === true }
  const ask = (body: object): Promise<ReinstallPlan> => api.post('/reinstall', body)
  if (flags.yes === true || nodes.length === 1) return ask(request)
  const plan = await ask({ ...request, dryRun: true })
  const [only, ...more] = plan.nodes
  if (only === undefined) throw new PawlError('not-found', 'no node is meant by this')
  if (more.length > 0) return plan
  // By its name: another may have come to fit the pattern meanwhile.
  return ask({ nodes: [only.name], cancel: flags.cancel === true })
}

function showPlan({ output }: Context, { nodes, applied }: ReinstallPlan): void {
  output.table(
    [
      { title: 'NAME', min: 12 },
      { title: 'REINSTALL', min: 9, drop: 1 },
      { title: applied ? 'NOW' : 'WOULD BE', min: 8 },
      { title: '' },
    ],
    nodes.map(({ name, before, after, warning }) => [
      name,
      before,
      before === after ? after : toned('warn', after),
      warning ?? '',
    ]),
  )
  if (applied) return
  output.note(`nothing was done: add --yes to change ${count(nodes.length, 'node')}`)
}
