import type { Command } from 'commander'
import type { EventView, NodeView, Page } from '../answers.ts'
import type { Api } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { nodePath } from '../values.ts'
import { allNodes } from './node-show.ts'

/** The SSH host keys that a node told with its last success. */
interface KnownHost {
  readonly node: string
  /** Its name, and its single addresses. */
  readonly hosts: readonly string[]
  /** `TYPE BASE64`. */
  readonly keys: readonly string[]
  /** When it told them. */
  readonly at: string | null
}

/** Adds `pawl node known-hosts`. */
export function addKnownHostsCommand(node: Command, context: Context): void {
  const command = node
    .command('known-hosts')
    .description(
      'The SSH host keys that nodes told with their last success, as OpenSSH keeps them in known_hosts.',
    )
    .argument('[name...]', 'the nodes; without any, all')
    .action((names: readonly string[]) =>
      withApi(context, async (api) => {
        const nodes =
          names.length === 0
            ? await allNodes(api, {})
            : await Promise.all(names.map((name) => api.get<NodeView>(nodePath(name))))
        const items: KnownHost[] = []
        for (const one of nodes) items.push(await knownHostOf(api, one))
        answer(context, { items }, () => show(context, items, names.length > 0))
      }),
    )
  withExamples(command, [
    'pawl node known-hosts > ~/.ssh/known_hosts.pawl',
    'ssh -o UserKnownHostsFile=~/.ssh/known_hosts.pawl root@mlab1',
    'pawl node known-hosts mlab1 mlab2',
  ])
}

async function knownHostOf(api: Api, { name, addresses }: NodeView): Promise<KnownHost> {
  const query = { node: name, kind: 'session-ready', limit: 1 }
  const { items } = await api.get<Page<EventView, number>>('/events', query)
  const told = items[0]?.detail.sshHostKeys
  const keys = Array.isArray(told) ? told.filter(isKey) : []
  const single = addresses.filter((address) => !address.includes('/'))
  return { node: name, hosts: [name, ...single], keys, at: keys.length === 0 ? null : (items[0]?.at ?? null) }
}

/** What a line of known_hosts can carry: whoever wrote the event must not add another line to the file. */
function isKey(key: unknown): key is string {
  return typeof key === 'string' && /^[a-z0-9-]+ [A-Za-z0-9+/]+={0,2}$/.test(key)
}

function show({ output }: Context, items: readonly KnownHost[], named: boolean): void {
  for (const { node, hosts, keys } of items) {
    for (const key of keys) output.line(`${hosts.join(',')} ${key}`)
    if (keys.length === 0 && named)
      output.warning(`node "${node}" told no SSH host keys with its last success`)
  }
}
