import type { Command } from 'commander'
import { PawlError } from '../../errors.ts'
import type { AppliedProfile, ProfileView } from '../answers.ts'
import { pathOf } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatAge } from '../format.ts'
import { wholeList } from '../pages.ts'
import { argument, ifRevision, type RevisionFlag } from '../values.ts'

/** Adds `pawl profile …`. */
export function addProfileCommands(program: Command, context: Context): void {
  const profile = program.command('profile').description('What kinds of machines boot.')
  addApply(profile, context)
  addList(profile, context)
  addShow(profile, context)
}

function addApply(profile: Command, context: Context): void {
  const command = profile
    .command('apply')
    .description(
      'Make or change a profile from a YAML file. A secret setting of "***", as `profile show` prints it, keeps the stored one; {fromEnv: NAME} and {fromFile: PATH} read it here.',
    )
    .requiredOption('-f, --file <FILE>', 'the file; "-" reads stdin')
    .addOption(ifRevision())
    .action(({ file, ifRevision: revision }: { file: string } & RevisionFlag) =>
      withApi(context, async (api) => {
        const { readProfile } = await import('../profile-file.ts') // schemas take time to load: only who needs them waits
        const { orTellFaults } = await import('../fleet-plan-view.ts')
        const { document, warnings } = await orTellFaults(context, () => readProfile(file, context.io))
        const path = `/profiles${pathOf(document.name)}`
        const applied = await api.put<AppliedProfile>(path, document, { revision })
        answer(context, applied, () =>
          context.output.line(`profile "${applied.name}" applied, revision ${applied.revision}`),
        )
        for (const warning of [...warnings, ...applied.warnings]) context.output.warning(warning)
      }),
    )
  withExamples(command, [
    'pawl profile apply -f worker.yaml',
    'pawl profile show a | sed s/full@1/full@2/ | pawl profile apply -f -',
  ])
}

function addList(profile: Command, context: Context): void {
  const command = profile
    .command('list')
    .description('Profiles by name.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await wholeList<ProfileView>(api, '/profiles')
        answer(context, page, () => showList(context, page.items))
      }),
    )
  withExamples(command, ['pawl profile list'])
}

function addShow(profile: Command, context: Context): void {
  const command = profile
    .command('show')
    .description('A profile as YAML that `profile apply` reads back. Its secret settings are "***".')
    .argument('<name>', 'the profile')
    .action((name: string) =>
      withApi(context, async (api) => {
        const found = await api.get<ProfileView>(`/profiles${pathOf(argument(name, parseName))}`)
        const { asciiYaml } = await import('../yaml-text.ts')
        answer(context, found, () => {
          for (const line of asciiYaml(found.profile)) context.output.line(line)
        })
      }),
    )
  withExamples(command, ['pawl profile show worker > worker.yaml'])
}

function showList({ output, io }: Context, profiles: readonly ProfileView[]): void {
  if (profiles.length === 0) {
    output.note('no profiles')
    return
  }
  output.table(
    [
      { title: 'NAME', min: 12 },
      { title: 'REVISION', align: 'right', min: 8, drop: 2 },
      { title: 'BOOT', min: 16 },
      { title: 'REINSTALL', min: 16, drop: 3 },
      { title: 'CHANGED', align: 'right', min: 7, drop: 1 },
    ],
    profiles.map(({ name, revision, profile, updatedAt }) => [
      name,
      String(revision),
      sequenceOf(profile.boot),
      sequenceOf(profile.reinstall),
      formatAge(updatedAt, io.now()),
    ]),
  )
}

/** A sequence in a cell: its last image says most. */
function sequenceOf(sequence: unknown): string {
  if (sequence === undefined) return '-'
  if (typeof sequence === 'string') return sequence
  const { stage3, imagesVersion } = sequence as { stage3?: string; imagesVersion?: string }
  return stage3 ?? `epoxy ${imagesVersion ?? ''}`
}

function parseName(text: string): string {
  if (/^[a-z0-9][a-z0-9-]{0,62}$/.test(text)) return text
  throw new PawlError('invalid', `"${text}" is not the name of a profile`)
}
