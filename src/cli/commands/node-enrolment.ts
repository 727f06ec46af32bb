import type { Command } from 'commander'
import { parseNodeName } from '../../domain/node.ts'
import { PawlError } from '../../errors.ts'
import type { ChangedNode, PendingMachine } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatAge, formatTime } from '../format.ts'
import { wholeList } from '../pages.ts'
import { argument, collect, parseDuration, parsePairs } from '../values.ts'

interface ApproveFlags {
  readonly name: string
  readonly profile: string
  readonly label?: readonly string[]
  readonly address?: readonly string[]
}

/** Adds `pawl node pending`, `approve` and `reject`. */
export function addEnrolmentCommands(node: Command, context: Context): void {
  const pending = node
    .command('pending')
    .description('Unknown machines that wait for approval. Compare the code with the one on the console.')
    .option('--rejected', 'those that were turned away instead')
    .action((flags: { rejected?: true }) =>
      withApi(context, async (api) => {
        const query = flags.rejected === true ? { rejected: 'true' } : {}
        const page = await wholeList<PendingMachine>(api, '/pending', query)
        answer(context, page, () => showPending(context, page.items, flags.rejected === true))
      }),
    )
  withExamples(pending, ['pawl node pending', 'pawl node pending --rejected'])
  addApprove(node, context)
  addReject(node, context)
}

function addReject(node: Command, context: Context): void {
  const command = node
    .command('reject')
    .description(
      'Turn a waiting machine away: its console says so, and it asks rarely until the time is over.',
    )
    .argument('<code>', 'the code it shows')
    .option('--for <TIME>', 'how long (1d)', parseDuration)
    .action((code: string, flags: { for?: number }) =>
      withApi(context, async (api) => {
        await api.post(`/pending/${argument(code, parseCode)}/reject`, { forSeconds: flags.for })
        answer(context, { code, rejected: true }, () => context.output.line(`machine ${code} rejected`))
      }),
    )
  withExamples(command, ['pawl node reject 7k2mq-x9c4t', 'pawl node reject 7k2mq-x9c4t --for 30d'])
}

function addApprove(node: Command, context: Context): void {
  const command = node
    .command('approve')
    .description('Make a waiting machine a node.')
    .argument('<code>', 'the code that the machine shows on its console')
    .requiredOption('--name <NAME>', 'the host name it gets')
    .requiredOption('--profile <P>', 'the profile it boots')
    .option('--label <K=V>', 'a label; may be repeated', collect)
    .option('--address <IP|CIDR>', 'an address it boots from, in place of its own; may be repeated', collect)
    .action((code: string, flags: ApproveFlags) =>
      withApi(context, async (api) => {
        const path = `/pending/${argument(code, parseCode)}/approve`
        const approved = await api.create<ChangedNode>(path, {
          name: argument(flags.name, parseNodeName),
          profile: flags.profile,
          labels: flags.label === undefined ? undefined : parsePairs(flags.label, false),
          addresses: flags.address,
        })
        answer(context, approved, () => context.output.line(`machine ${code} is node "${approved.name}" now`))
        for (const warning of approved.warnings ?? []) context.output.warning(warning)
      }),
    )
  withExamples(command, [
    'pawl node approve 7k2mq-x9c4t --name mlab3 --profile worker',
    'pawl node approve 7k2mq-x9c4t --name mlab3 --profile worker --label rack=r1',
  ])
}

function parseCode(text: string): string {
  if (/^[0-9A-Za-z -]{1,64}$/.test(text)) return text.replaceAll(' ', '')
  throw new PawlError('invalid', `"${text}" is not the code of a machine`)
}

function showPending({ output, io }: Context, machines: readonly PendingMachine[], rejected: boolean): void {
  if (machines.length === 0) {
    output.note(rejected ? 'no machine is turned away' : 'no machine waits')
    return
  }
  output.table(
    [
      { title: 'CODE', min: 11 },
      { title: 'MAC', min: 17, drop: 5 },
      { title: 'SERIAL', min: 10 },
      { title: 'PRODUCT', drop: 3 },
      { title: 'FROM', min: 12, drop: 4 },
      { title: 'AGE', align: 'right', min: 5, drop: 6 },
      { title: 'SEEN', align: 'right', min: 5, drop: 2 },
      rejected ? { title: 'UNTIL', min: 16, drop: 7 } : { title: 'NO RULE', min: 7, drop: 1 },
    ],
    machines.map(({ code, facts, source, firstSeenAt, lastSeenAt, notByRule, expiresAt }) => [
      code,
      facts.mac ?? '-',
      facts.serial ?? '-',
      [facts.manufacturer, facts.product].filter((part) => part !== undefined).join(' ') || '-',
      source,
      formatAge(firstSeenAt, io.now()),
      formatAge(lastSeenAt, io.now()),
      rejected ? formatTime(expiresAt) : (notByRule ?? '-'),
    ]),
  )
}
