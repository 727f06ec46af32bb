import type { Command } from 'commander'
import { PawlError } from '../../errors.ts'
import type { FleetExport, FleetPlan, FleetSetView, Page } from '../answers.ts'
import type { Api } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import type { LoadedFleet } from '../fleet-files.ts'
import type { FleetFile } from '../fleet-yaml.ts'
import { count, formatAge } from '../format.ts'
import { wholeList } from '../pages.ts'
import { asciiJson, operatorName } from '../text.ts'
import { collect } from '../values.ts'

interface Flags {
  readonly file: readonly string[]
  readonly set: string
  readonly prune?: boolean
  readonly takeOver?: boolean
}

interface ApplyFlags extends Flags {
  readonly yes?: true
  readonly allowMassRemoval?: true
}

const filesOption = [
  '-f, --file <FILE|DIR>',
  'a file, a folder of *.yaml files, or "-" for stdin; can be repeated',
] as const
const setOption = [
  '--set <NAME>',
  'the set that the files are: what one set holds, no other changes',
  'default',
] as const
const pruneOption = ['--prune', 'remove what this set held and the files name no more'] as const
const takeOverOption = ['--take-over', 'take over what is in another set'] as const

/** Adds `pawl diff`, `pawl apply` and `pawl export`. */
export function addFleetCommands(program: Command, context: Context): void {
  addDiff(program, context)
  addApply(program, context)
  addExport(program, context)
}

function addDiff(program: Command, context: Context): void {
  const command = program
    .command('diff')
    .description('What applying fleet files would change. Nothing is changed.')
    .requiredOption(...filesOption, collect)
    .option(...setOption)
    .option(...pruneOption)
    .option(...takeOverOption)
    .option('--exit-code', 'exit with 1 where there is a difference')
    .action((flags: Flags & { exitCode?: true }) =>
      withFleet(context, flags, async (api, loaded, view) => {
        const plan = await view.planOf(api, loaded, flags)
        answer(context, plan, () => view.showPlan(context, plan))
        view.warnOf(context, loaded, plan)
        view.refuseFaults(context, loaded, plan)
        if (plan.massRemoval) context.output.warning(`${removals(plan)}: apply wants --allow-mass-removal`)
        if (flags.exitCode === true && plan.changes.length > 0)
          throw new PawlError('conflict', 'the fleet is not as the files say')
      }),
    )
  withExamples(command, [
    'pawl diff -f fleet/',
    'pawl diff -f fleet/ --prune --exit-code',
    'pawl diff -f - < node.yaml',
  ])
}

function addApply(program: Command, context: Context): void {
  const command = program
    .command('apply')
    .description(
      'Make the fleet as fleet files say, in one transaction. One change is made at once; of more the plan is printed, and nothing done until --yes.',
    )
    .requiredOption(...filesOption, collect)
    .option(...setOption)
    .option(...pruneOption)
    .option(...takeOverOption)
    .option('--yes', 'do it, however much it is')
    .option('--allow-mass-removal', 'remove more than 10 % of the nodes')
    .action((flags: ApplyFlags) =>
      withFleet(context, flags, async (api, loaded, view) => {
        const plan = await view.planOf(api, loaded, flags)
        const waits = plan.changes.length > 1 && flags.yes !== true
        const refused = plan.faults.length > 0 || (plan.massRemoval && flags.allowMassRemoval !== true)
        const done = waits || refused ? plan : await carryOut(context, api, loaded, view, { plan, flags })
        const shown = { ...done, changes: plan.changes } // who changed what by hand is told by the plan
        answer(context, shown, () => view.showPlan(context, shown))
        view.warnOf(context, loaded, plan)
        view.refuseFaults(context, loaded, plan)
        if (refused)
          throw new PawlError('conflict', removals(plan), {
            hint: 'if that is meant, say so: --yes --allow-mass-removal',
          })
        if (waits)
          context.output.note(`nothing was done: add --yes to make ${count(plan.changes.length, 'change')}`)
      }),
    )
  withExamples(command, [
    'pawl apply -f fleet/ --yes',
    'pawl apply -f fleet/ --prune --yes',
    'pawl apply -f eu/ -f shared.yaml --set eu --yes',
  ])
}

function removals({ nodes: { before, removed } }: FleetPlan): string {
  return `this would remove ${removed} of ${before} nodes (${Math.floor((removed * 100) / before)} %), more than 10 %`
}

/** What is loaded when it is needed: schemas and YAML take time to load, and only who needs them waits. */
interface View {
  readonly planOf: (api: Api, loaded: LoadedFleet, flags: Flags) => Promise<FleetPlan>
  readonly showPlan: typeof import('../fleet-plan-view.ts').showPlan
  readonly warnOf: typeof import('../fleet-plan-view.ts').warnOf
  readonly refuseFaults: typeof import('../fleet-plan-view.ts').refuseFaults
}

async function withFleet(
  context: Context,
  flags: Flags,
  work: (api: Api, loaded: LoadedFleet, view: View) => Promise<void>,
): Promise<void> {
  const { loadFleet } = await import('../fleet-files.ts')
  const { orTellFaults, ...view } = await import('../fleet-plan-view.ts')
  const loaded = await orTellFaults(context, () => loadFleet(flags.file, context.io))
  await withApi(context, (api) =>
    work(api, loaded, {
      ...view,
      planOf: (api, loaded, flags) => api.post('/fleet', { ...requestOf(loaded, flags), dryRun: true }),
    }),
  )
}

function requestOf(loaded: LoadedFleet, { set, prune = false, takeOver = false }: Flags): object {
  return { ...loaded.fleet, set, prune, takeOver, files: loaded.files }
}

/** Applies exactly the plan that was made; where the fleet is another by now, shows what would be done now. */
async function carryOut(
  context: Context,
  api: Api,
  loaded: LoadedFleet,
  view: View,
  { plan, flags }: { plan: FleetPlan; flags: ApplyFlags },
): Promise<FleetPlan> {
  const allowMassRemoval = flags.allowMassRemoval === true
  try {
    return await api.post<FleetPlan>('/fleet', {
      ...requestOf(loaded, flags),
      plan: plan.plan,
      allowMassRemoval,
    })
  } catch (error) {
    if (!(error instanceof PawlError) || error.code !== 'conflict') throw error
    const now = await view.planOf(api, loaded, flags)
    if (now.plan === plan.plan) throw error
    answer(context, now, () => view.showPlan(context, now))
    throw new PawlError(
      'conflict',
      'the fleet changed meanwhile: this is what would be done now, and nothing was',
      {
        hint: 'look at it, and apply again',
      },
    )
  }
}

interface ExportFlags {
  readonly set?: string
  readonly sets?: true
  readonly out?: string
  readonly schema?: true
}

/** The schema by which editors check the files beside it. */
export async function schemaFile(): Promise<FleetFile> {
  const { fleetFileSchema } = await import('../../domain/fleet-file.ts')
  return { name: 'fleet.schema.json', lines: asciiJson(fleetFileSchema()).split('\n') }
}

/** Prints files one behind the other. */
export function printFiles({ output }: Context, files: readonly FleetFile[]): void {
  const seen = new Set<string>()
  for (const line of files.flatMap(({ lines }) => lines)) {
    // The line that names the schema holds for what follows: once is enough.
    if (line.startsWith('# yaml-language-server') && seen.has(line)) continue
    seen.add(line)
    output.line(line)
  }
}

function addExport(program: Command, context: Context): void {
  const command = program
    .command('export')
    .description('The running fleet as fleet files: applied again, they change nothing. Secrets are "***".')
    .option('--set <NAME>', 'only what is in this set')
    .option('--sets', 'list the sets that were applied')
    .option(
      '--out <DIR>',
      'write nodes.yaml, profiles.yaml, channels.yaml, extensions.yaml and the schema into a new folder',
    )
    .option('--schema', 'print the JSON Schema of fleet files, for editors; asks no server')
    .action(async (flags: ExportFlags) => {
      if (flags.schema === true) return printFiles(context, [await schemaFile()])
      return withApi(context, async (api) => {
        if (flags.sets === true) return showSets(context, await wholeList<FleetSetView>(api, '/fleet/sets'))
        const fleet = await api.get<FleetExport>('/fleet', { set: flags.set })
        const { writeFleet } = await import('../fleet-yaml.ts')
        const files = writeFleet(fleet)
        if (flags.out === undefined) return answer(context, fleet, () => printFiles(context, files))
        const { writeFolder } = await import('../write-folder.ts')
        await writeFolder(flags.out, [...files, await schemaFile()])
        const { nodes, profiles, channels, extensions } = fleet
        const what = [
          count(nodes.length, 'node'),
          count(profiles.length, 'profile'),
          count(channels.length, 'channel'),
          count(extensions.length, 'extension'),
        ]
        answer(context, fleet, () => context.output.line(`wrote ${what.join(', ')} to ${flags.out ?? ''}`))
      })
    })
  withExamples(command, [
    'pawl export > fleet.yaml',
    'pawl export --out fleet',
    'pawl export --set eu',
    'pawl export --schema',
  ])
}

function showSets(context: Context, page: Page<FleetSetView, never>): void {
  answer(context, page, () => {
    if (page.items.length === 0) return context.output.note('no fleet files were applied')
    context.output.table(
      [
        { title: 'SET', min: 8 },
        { title: 'NODES', align: 'right', min: 5 },
        { title: 'PROFILES', align: 'right', min: 8 },
        { title: 'CHANNELS', align: 'right', min: 8 },
        { title: 'EXTENSIONS', align: 'right', min: 10 },
        { title: 'APPLIED', align: 'right', min: 7 },
        { title: 'BY', min: 4 },
      ],
      page.items.map((set) => [
        set.name,
        ...[set.nodes, set.profiles, set.channels, set.extensions].map(String),
        set.appliedAt === null ? '-' : formatAge(set.appliedAt, context.io.now()),
        operatorName(set.appliedBy ?? '-'),
      ]),
    )
  })
}
