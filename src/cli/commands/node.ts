import type { Command } from 'commander'
import { parseNodeName } from '../../domain/node.ts'
import { PawlError } from '../../errors.ts'
import type { ChangedNode, NodeView } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { argument, collect, ifRevision, nodePath, parsePairs, type RevisionFlag } from '../values.ts'
import { addAutoApproveCommands } from './node-auto-approve.ts'
import { addCertificateCommands } from './node-certificate.ts'
import { addEnrolmentCommands } from './node-enrolment.ts'
import { addFactsCommand } from './node-facts.ts'
import { addKnownHostsCommand } from './node-known-hosts.ts'
import { addLeaveCommand } from './node-leave.ts'
import { addLogsCommand } from './node-logs.ts'
import { addReinstallCommand } from './node-reinstall.ts'
import { addSecretCommand } from './node-secret.ts'
import { addNodeShowCommands } from './node-show.ts'
import { addTimelineCommand } from './node-timeline.ts'
import { addWatchCommand } from './node-watch.ts'

interface SettingsFlags {
  readonly address?: readonly string[]
  readonly mac?: readonly string[]
  readonly uuid?: string
  readonly serial?: string
  readonly profile?: string
  readonly label?: readonly string[]
}

/** Adds `pawl node …`. */
export function addNodeCommands(program: Command, context: Context): void {
  const node = program.command('node').description('Machines: register, watch, reinstall.')
  addAdd(node, context)
  addSet(node, context)
  addRemove(node, context)
  addActions(node, context)
  addNodeShowCommands(node, context)
  addReinstallCommand(node, context)
  addLeaveCommand(node, context)
  addSecretCommand(node, context)
  addCertificateCommands(node, context)
  addTimelineCommand(node, context)
  addLogsCommand(node, context)
  addWatchCommand(node, context)
  addKnownHostsCommand(node, context)
  addEnrolmentCommands(node, context)
  addAutoApproveCommands(node, context)
  addFactsCommand(node, context)
}

function addAdd(node: Command, context: Context): void {
  const command = settingsFlags(
    node
      .command('add')
      .description('Register a machine. Refuses to overwrite one.')
      .argument('<name>', 'its host name'),
  ).action((name: string, flags: SettingsFlags) =>
    withApi(context, async (api) => {
      const added = await api.create<ChangedNode>('/nodes', {
        name: argument(name, parseNodeName),
        ...settingsOf(flags, false),
      })
      showChanged(context, added, 'added')
    }),
  )
  withExamples(command, [
    'pawl node add mlab1 --mac 52:54:00:12:34:56 --profile worker',
    'pawl node add mlab2 --address 192.0.2.2 --address 2001:db8::2',
  ])
}

function addSet(node: Command, context: Context): void {
  const command = settingsFlags(
    node
      .command('set')
      .description(
        'Change what is given and nothing else. Addresses and MACs replace the whole list; an empty value clears (--uuid ""), and --label K= removes a label.',
      )
      .argument('<name>', 'the node')
      .addOption(ifRevision()),
  ).action((name: string, { ifRevision: revision, ...flags }: SettingsFlags & RevisionFlag) =>
    withApi(context, async (api) => {
      const changes = settingsOf(flags, true)
      if (Object.keys(changes).length === 0) {
        throw new PawlError('usage', `nothing to change of "${name}" was given`, {
          hint: 'see pawl node set --help',
        })
      }
      showChanged(context, await api.patch<ChangedNode>(nodePath(name), changes, { revision }), 'changed')
    }),
  )
  withExamples(command, [
    'pawl node set mlab1 --profile storage',
    'pawl node set mlab1 --address 192.0.2.1 --label rack=',
    'pawl node set mlab1 --profile storage --if-revision 12',
  ])
}

function settingsFlags(command: Command): Command {
  return command
    .option('--address <IP|CIDR>', 'an address it boots from; may be repeated', collect)
    .option('--mac <MAC>', 'a MAC address of a NIC it boots from; may be repeated', collect)
    .option('--uuid <UUID>', 'its SMBIOS system UUID')
    .option('--serial <S>', 'its chassis serial number')
    .option('--profile <P>', 'the profile it boots')
    .option('--label <K=V>', 'a label; may be repeated', collect)
}

/** Only what was given. With `clears`, an empty value says that there is none from now on. */
function settingsOf(flags: SettingsFlags, clears: boolean): Record<string, unknown> {
  const { address, mac, label, ...texts } = flags
  const settings: Record<string, unknown> = {}
  if (address !== undefined) settings.addresses = clears ? withoutEmpty(address) : address
  if (mac !== undefined) settings.macs = clears ? withoutEmpty(mac) : mac
  for (const name of ['uuid', 'serial', 'profile'] as const) {
    const text = texts[name]
    if (text !== undefined) settings[name] = text === '' && clears ? null : text
  }
  if (label !== undefined) settings.labels = parsePairs(label, clears)
  return settings
}

function withoutEmpty(values: readonly string[]): string[] {
  return values.filter((value) => value !== '')
}

function addRemove(node: Command, context: Context): void {
  const command = node
    .command('remove')
    .description('Forget a node: its boot ends at once, its tokens are spent. Its events stay.')
    .argument('<name>', 'the node')
    .option('--cluster', 'its object in the cluster first, as its profile leaves it')
    .addOption(ifRevision())
    .action((name: string, { ifRevision: revision, cluster }: RevisionFlag & { readonly cluster?: true }) =>
      withApi(context, async (api) => {
        await api.delete(`${nodePath(name)}${cluster === true ? '?cluster=true' : ''}`, { revision })
        answer(context, { name, removed: true }, () => context.output.line(`node "${name}" removed`))
      }),
    )
  withExamples(command, ['pawl node remove mlab1', 'pawl node remove mlab1 --cluster'])
}

const actions = [
  ['enable', 'Let a disabled or held node boot again.', 'enabled'],
  ['disable', 'Serve a node nothing more: its boot ends at once, its tokens are spent.', 'disabled'],
  ['arm', 'Allow one boot of a ready node whose profile says "armed".', 'armed for one boot'],
] as const

function addActions(node: Command, context: Context): void {
  for (const [name, description, done] of actions) {
    const command = node
      .command(name)
      .description(description)
      .argument('<name>', 'the node')
      .action((of: string) =>
        withApi(context, async (api) => {
          const changed = await api.post<NodeView>(`${nodePath(of)}/${name}`)
          answer(context, changed, () =>
            context.output.line(`node "${changed.name}" ${done}; it is ${changed.state}`),
          )
        }),
      )
    withExamples(command, [`pawl node ${name} mlab1`])
  }
}

function showChanged(context: Context, changed: ChangedNode, done: string): void {
  answer(context, changed, () => context.output.line(`node "${changed.name}" ${done}`))
  for (const warning of changed.warnings ?? []) context.output.warning(warning)
}
