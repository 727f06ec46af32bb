import type { Command } from 'commander'
import { parseNodeName } from '../../domain/node.ts'
import { PawlError } from '../../errors.ts'
import type { ChangedNode, Page, PendingMachine } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatAge } from '../format.ts'
import { argument } from '../values.ts'

/** Adds `pawl node pending`, `approve` and `reject`. */
export function addEnrolmentCommands(node: Command, context: Context): void {
  const pending = node
    .command('pending')
    .description('Unknown machines that wait for approval. Compare the code with the one on the console.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await api.get<Page<PendingMachine, never>>('/pending')
        answer(context, page, () => showPending(context, page.items))
      }),
    )
  withExamples(pending, ['pawl node pending'])
  addApprove(node, context)
  const reject = node
    .command('reject')
    .description('Turn a waiting machine away.')
    .argument('<code>', 'the code it shows')
    .action((code: string) =>
      withApi(context, async (api) => {
        await api.post(`/pending/${argument(code, parseCode)}/reject`)
        answer(context, { code, rejected: true }, () => context.output.line(`machine ${code} rejected`))
      }),
    )
  withExamples(reject, ['pawl node reject 7k2mq-x9c4t'])
}

function addApprove(node: Command, context: Context): void {
  const command = node
    .command('approve')
    .description('Make a waiting machine a node.')
    .argument('<code>', 'the code that the machine shows on its console')
    .requiredOption('--name <NAME>', 'the host name it gets')
    .requiredOption('--profile <P>', 'the profile it boots')
    .action((code: string, flags: { name: string; profile: string }) =>
      withApi(context, async (api) => {
        const path = `/pending/${argument(code, parseCode)}/approve`
        const approved = await api.post<ChangedNode>(path, {
          name: argument(flags.name, parseNodeName),
          profile: flags.profile,
        })
        answer(context, approved, () => context.output.line(`machine ${code} is node "${approved.name}" now`))
        for (const warning of approved.warnings ?? []) context.output.warning(warning)
      }),
    )
  withExamples(command, ['pawl node approve 7k2mq-x9c4t --name mlab3 --profile worker'])
}

function parseCode(text: string): string {
  if (/^[0-9A-Za-z -]{1,64}$/.test(text)) return text.replaceAll(' ', '')
  throw new PawlError('invalid', `"${text}" is not the code of a machine`)
}

function showPending({ output, io }: Context, machines: readonly PendingMachine[]): void {
  if (machines.length === 0) {
    output.note('no machine waits')
    return
  }
  output.table(
    [
      { title: 'CODE', min: 11 },
      { title: 'MAC', min: 17 },
      { title: 'SERIAL', min: 8 },
      { title: 'PRODUCT' },
      { title: 'FROM', min: 9 },
      { title: 'SEEN', align: 'right', min: 6 },
    ],
    machines.map(({ code, facts, source, lastSeenAt }) => [
      code,
      facts.mac ?? '-',
      facts.serial ?? '-',
      [facts.manufacturer, facts.product].filter((part) => part !== undefined).join(' ') || '-',
      source,
      formatAge(lastSeenAt, io.now()),
    ]),
  )
}
