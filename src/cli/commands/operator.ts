import { type Command, Option } from 'commander'
import type { IssuedOperator, OperatorView } from '../answers.ts'
import { pathOf } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatAge } from '../format.ts'
import { wholeList } from '../pages.ts'
import { standingOf, usedOf } from '../standing.ts'
import { parseDuration } from '../values.ts'
import { addIdentityCommands } from './operator-identity.ts'

interface CreateFlags {
  readonly name: string
  readonly role: string
  readonly expires?: number
  readonly scope?: string
}

/** Adds `pawl operator token …`. */
export function addOperatorCommands(program: Command, context: Context): void {
  const operator = program.command('operator').description('Who may do what.')
  const token = operator.command('token').description('Tokens of people and programs: make, look, revoke.')
  addCreate(token, context)
  addList(token, context)
  addRevoke(token, context)
  addIdentityCommands(operator, context)
}

function addCreate(token: Command, context: Context): void {
  const command = token
    .command('create')
    .description('Make a token. It is shown this once.')
    .requiredOption('--name <N>', 'who will hold it; events name it')
    .addOption(
      new Option('--role <ROLE>', 'what it may do')
        .choices(['viewer', 'operator', 'publisher', 'admin'])
        .makeOptionMandatory(),
    )
    .option(
      '--expires <TIME>',
      'how long it is good: 12h, 90d; without it, until it is revoked',
      parseDuration,
    )
    .option('--scope <GLOB>', 'for publishers: the names of the images it is for')
    .action(({ name, role, expires, scope }: CreateFlags) =>
      withApi(context, async (api) => {
        const expiresAt =
          expires === undefined
            ? undefined
            : new Date(context.io.now().getTime() + expires * 1000).toISOString()
        const issued = await api.create<IssuedOperator>('/operator-tokens', { name, role, expiresAt, scope })
        answer(context, issued, () => context.output.line(issued.token))
        context.output.note(`token ${issued.id}, shown this once`)
      }),
    )
  withExamples(command, [
    'pawl operator token create --name ann --role operator --expires 90d',
    "pawl operator token create --name ci --role publisher --scope 'worker*'",
  ])
}

function addList(token: Command, context: Context): void {
  const command = token
    .command('list')
    .description('Every token that was made, the newest first, without its secret.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await wholeList<OperatorView>(api, '/operator-tokens')
        answer(context, page, () => showList(context, page.items))
      }),
    )
  withExamples(command, ['pawl operator token list'])
}

function addRevoke(token: Command, context: Context): void {
  const command = token
    .command('revoke')
    .description('Take a token back. It opens nothing from now on.')
    .argument('<id>', 'its id, as list shows it')
    .action((id: string) =>
      withApi(context, async (api) => {
        const revoked = await api.delete<OperatorView>(`/operator-tokens${pathOf(id)}`)
        answer(context, revoked, () =>
          context.output.line(`token ${revoked.id} of ${revoked.name} (${revoked.role}) is revoked`),
        )
      }),
    )
  withExamples(command, ['pawl operator token revoke 6fkH0cTn3JvS'])
}

function showList({ output, io }: Context, tokens: readonly OperatorView[]): void {
  output.table(
    [
      { title: 'ID', min: 12 },
      { title: 'NAME', min: 8 },
      { title: 'ROLE', min: 9 },
      { title: 'SCOPE', min: 6, drop: 2 },
      { title: 'STATE', min: 21, drop: 4 },
      { title: 'USED', min: 6, drop: 3 },
      { title: 'AGO', align: 'right', min: 6, drop: 1 },
    ],
    tokens.map((one) => [
      one.id,
      one.name,
      one.role,
      one.scope ?? '',
      standingOf(one, io.now()),
      usedOf(one, io.now()),
      formatAge(one.createdAt, io.now()),
    ]),
  )
}
