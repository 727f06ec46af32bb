import type { Command } from 'commander'
import type { NodeState } from '../../domain/state.ts'
import type { StatusAnswer } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count, formatTime } from '../format.ts'
import type { Field } from '../table.ts'
import { type Piece, toned } from '../text.ts'

/** Adds `pawl status`. */
export function addStatusCommand(program: Command, context: Context): void {
  const command = program
    .command('status')
    .description('The server and its fleet at a glance: how nodes are, and what waits for someone.')
    .action(() =>
      withApi(context, async (api) => {
        const status = await api.get<StatusAnswer>('/status')
        answer(context, status, () => context.output.fields(fieldsOf(status, context.io.now())))
      }),
    )
  withExamples(command, ['pawl status'])
}

/** What is well is said in a word; what waits for someone comes with the command that shows it. */
function fieldsOf(status: StatusAnswer, now: Date): Field[] {
  const { server, reinstalls, pending, proposals, refusals } = status
  const { marked, serving } = reinstalls
  return [
    { name: 'server', value: `pawl ${server.version}, ${databases[server.database]}` },
    { name: 'certificates', value: certificatesOf(status, now) },
    { name: 'nodes', value: nodesOf(status) },
    {
      name: 'reinstalls',
      value: marked + serving === 0 ? 'none' : `${marked} marked, ${serving} under way`,
    },
    ...bootsOf(status),
    {
      name: 'pending',
      value: pending === 0 ? 'none' : toned('warn', `${count(pending, 'machine')}: see pawl node pending`),
    },
    { name: 'rollouts', value: rolloutsOf(status) },
    {
      name: 'proposals',
      value:
        proposals === 0 ? 'none' : toned('warn', `${proposals} for a second person: see pawl proposal list`),
    },
    {
      name: 'refusals',
      value:
        refusals.lastHour === 0
          ? 'none in the last hour'
          : toned(
              'warn',
              `${refusals.lastHour} in the last hour, of ${count(refusals.nodes, 'node')}: see pawl event list --kind refused`,
            ),
    },
    ...(status.sharedAddresses === 0
      ? []
      : [
          {
            name: 'addresses',
            value: toned(
              'bad',
              `${status.sharedAddresses === 1 ? 'one is' : `${status.sharedAddresses} are`} of several nodes, and must prove one: see pawl doctor`,
            ),
          },
        ]),
    { name: 'webhooks', value: webhooksOf(status) },
    { name: 'load', value: loadOf(status) },
  ]
}

const databases = { sqlite: 'SQLite', postgres: 'PostgreSQL' } as const
const bad: readonly NodeState[] = ['failed', 'held']

function nodesOf({ nodes }: StatusAnswer): Piece[] {
  if (nodes.total === 0) return ['none: add one with pawl node add']
  const states = Object.entries(nodes.states) as [NodeState, number][] // the server's own table of states
  return [
    String(nodes.total),
    ...states.map(([state, number]) =>
      toned(bad.includes(state) ? 'bad' : state === 'ready' ? 'good' : 'plain', `${number} ${state}`),
    ),
  ]
}

/** Only where some need eyes. */
function bootsOf({ boots: { slow, stuck, looping } }: StatusAnswer): Field[] {
  if (slow + stuck + looping === 0) return []
  const value: Piece[] = [
    ...(slow === 0 ? [] : [toned('warn', `${slow} slow`)]),
    ...(stuck === 0 ? [] : [toned('bad', `${stuck} stuck`)]),
    ...(looping === 0 ? [] : [toned('bad', `${count(looping, 'node')} looping`)]),
    'see pawl node list',
  ]
  return [{ name: 'boots', value }]
}

function rolloutsOf({ rollouts }: StatusAnswer): readonly Piece[] {
  if (rollouts.length === 0) return ['none']
  return rollouts.map(({ channel, version, state, wave }) =>
    toned(state === 'running' ? 'plain' : 'warn', `${channel} to ${version}: ${state}, wave ${wave}`),
  )
}

/** What the processes have to do, together; what is too much comes with the command that shows whom. */
function loadOf({ processes }: StatusAnswer): readonly Piece[] {
  if (processes.length === 0) return ['unknown: no process has told']
  const sum = (of: (load: StatusAnswer['processes'][number]['load']) => number): number =>
    processes.reduce((total, { load }) => total + of(load), 0)
  const waiting = sum((load) => load.waiting)
  const told = sum((load) => load.nodesWaiting)
  const memory = Math.round(sum((load) => load.memoryBytes) / 2 ** 20)
  const longest = Math.max(...processes.map(({ load }) => load.longestWaitSeconds))
  return [
    ...(processes.length === 1 ? [] : [`${processes.length} processes`]),
    count(
      sum((load) => load.connections),
      'connection',
    ),
    count(
      sum((load) => load.downloads),
      'download',
    ),
    `${memory} MiB`,
    ...(waiting === 0 ? [] : [toned('warn', `${waiting} in the queue, for up to ${Math.ceil(longest)} s`)]),
    ...(told === 0 ? [] : [toned('bad', `${count(told, 'node')} told to come again: see pawl node list`)]),
  ]
}

function webhooksOf({ webhooks }: StatusAnswer): Piece {
  if (webhooks.total === 0) return 'none'
  if (webhooks.notWell.length === 0) return count(webhooks.total, 'webhook')
  return toned('bad', `${webhooks.notWell.join(', ')} of ${webhooks.total}: see pawl webhook list`)
}

const soon = 14 * 86_400_000

function certificatesOf({ server }: StatusAnswer, now: Date): Piece[] {
  if (server.certificates.length === 0) return ['unknown']
  return server.certificates.map(({ listener, notAfter }) =>
    toned(
      Date.parse(notAfter) - now.getTime() < soon ? 'bad' : 'plain',
      `${listener} until ${formatTime(notAfter)}`,
    ),
  )
}
