import { type Command, InvalidArgumentError, Option } from 'commander'
import { nodeTransitions } from '../../domain/state.ts'
import { isPawlError, PawlError } from '../../errors.ts'
import type { NodeView } from '../answers.ts'
import type { Api } from '../api.ts'
import { type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { followEvents, sleep, taken, untilInterrupted } from '../follow.ts'
import { count, formatClock } from '../format.ts'
import { openScreen } from '../live-screen.ts'
import { allNodes, nodeColumns, nodeRow, stateWithPace } from './node-show.ts'

interface WatchFlags {
  readonly state?: string
  readonly label?: string
  readonly until?: string
  readonly timeout?: number
}

/** The shortest time between two looks, and the longest. */
const everyMilliseconds = { least: 500, most: 10_000 }

/** Adds `pawl node watch`. */
export function addWatchCommand(node: Command, context: Context): void {
  const states = Object.keys(nodeTransitions)
  const command = node
    .command('watch')
    .description(
      'Nodes as they change: a table that stays up to date on a terminal, a line for each change otherwise. With --until it ends when all of them are in a state (ready: with no reinstall to come), and exits 1 where that is out of reach.',
    )
    .argument('[name...]', 'the nodes; without any, all')
    .addOption(new Option('--state <S>', 'show only nodes in this state').choices(states))
    .option('--label <K=V>', 'only nodes with this label')
    .addOption(new Option('--until <S>', 'end when all of them are in this state').choices(states))
    .option('--timeout <T>', 'with --until: give up after 90s, 30m, 2h', parseWait)
    .action((names: string[], flags: WatchFlags) => {
      if (flags.timeout !== undefined && flags.until === undefined)
        throw new PawlError('usage', '--timeout without --until')
      return withApi(context, (api) => watch(context, api, names, flags))
    })
  withExamples(command, [
    'pawl node watch',
    'pawl node watch --label site=lga --state booting',
    'pawl node reinstall mlab1 && pawl node watch mlab1 --until ready',
  ])
}

async function watch(context: Context, api: Api, names: readonly string[], flags: WatchFlags): Promise<void> {
  const { stop, done } = untilInterrupted(context)
  const view = context.io.isTTY.stdout && !context.flags().json ? liveTable(context) : lines(context)
  const changes = noticeChanges(context, stop)
  const ends =
    flags.timeout === undefined ? Number.POSITIVE_INFINITY : performance.now() + flags.timeout * 1000
  let nodes: NodeView[] | undefined
  try {
    while (!stop.aborted) {
      const lost = await read(api, names, flags, nodes === undefined).then(
        (found) => {
          nodes = found
        },
        (error: unknown) => lostBy(error, nodes),
      )
      view.show(
        (nodes ?? []).filter(({ state }) => flags.state === undefined || state === flags.state),
        lost?.message,
      )
      await taken(context, stop)
      if (lost === undefined && isDone(nodes ?? [], names, flags.until)) return
      const left = ends - performance.now()
      if (left <= 0) throw notInTime(nodes ?? [], flags)
      await changes.next(Math.min(everyMilliseconds.most, left))
      changes.check()
    }
    if (flags.until !== undefined)
      throw new PawlError('conflict', `interrupted: ${remaining(nodes ?? [], flags.until)}`)
  } finally {
    done()
    view.end()
  }
}

/** Those that were named, or all with the label. A name that is not there is refused at the beginning, and told later. */
async function read(
  api: Api,
  names: readonly string[],
  { label }: WatchFlags,
  isFirst: boolean,
): Promise<NodeView[]> {
  const all = await allNodes(api, label === undefined ? {} : { label: [label] })
  const missing = names.find((name) => !all.some((node) => node.name === name))
  if (missing !== undefined) {
    throw new PawlError('not-found', `node "${missing}" ${isFirst ? 'does not exist' : 'was removed'}`, {
      hint: 'list them with pawl node list',
    })
  }
  return names.length === 0 ? all : all.filter(({ name }) => names.includes(name))
}

/** A server that was there and is away is waited for; everything else ends the command. */
function lostBy(error: unknown, nodes: readonly NodeView[] | undefined): PawlError {
  const codes = ['unreachable', 'overloaded', 'storage-unavailable'] as const
  if (nodes === undefined || !codes.some((code) => isPawlError(error, code))) throw error
  return error as PawlError // of one of these codes
}

function isThere(node: NodeView, until: string): boolean {
  return node.state === until && (until !== 'ready' || node.reinstall === 'none')
}

/** Throws where waiting is of no use: nothing by itself lets go of a held or disabled node. */
function isDone(nodes: readonly NodeView[], names: readonly string[], until: string | undefined): boolean {
  if (until === undefined || (nodes.length === 0 && names.length === 0)) return false
  const others = nodes.filter((node) => !isThere(node, until))
  if (others.length === 0) return true
  const stuck = others.every(({ state }) => state === 'held' || state === 'disabled')
  if (!stuck) return false
  throw new PawlError('conflict', remaining(nodes, until), {
    hint: 'a held or disabled node does nothing by itself: pawl node enable NAME',
  })
}

function notInTime(nodes: readonly NodeView[], { until = '' }: WatchFlags): PawlError {
  const hint = nodes.length === 0 ? 'there is no such node' : 'pawl node timeline NAME shows how far one came'
  return new PawlError('conflict', `not in time: ${remaining(nodes, until)}`, { hint })
}

function remaining(nodes: readonly NodeView[], until: string): string {
  const others = nodes.filter((node) => !isThere(node, until))
  const told = others.slice(0, 5).map(({ name, state, failureCause, reinstall }) => {
    const more = [failureCause, reinstall === 'none' ? null : `reinstall ${reinstall}`].filter(
      (part) => part !== null,
    )
    return `${name} (${[state, ...more].join(', ')})`
  })
  const rest = others.length > 5 ? ` and ${others.length - 5} more` : ''
  return `${others.length} of ${count(nodes.length, 'node')} not ${until}: ${told.join(', ')}${rest}`
}

/** Wakes the loop when something happened: by the stream of events, where there is one. */
function noticeChanges(
  context: Context,
  stop: AbortSignal,
): { next(milliseconds: number): Promise<void>; check(): void } {
  let wake = new AbortController()
  let fault: unknown
  const listen = async (): Promise<void> => {
    for await (const _event of followEvents(context, { after: undefined }, stop)) wake.abort()
  }
  listen().catch((error: unknown) => {
    fault = isPawlError(error, 'unauthenticated') || isPawlError(error, 'forbidden') ? error : undefined
    wake.abort()
  })
  return {
    async next(milliseconds) {
      await sleep(Math.min(everyMilliseconds.least, milliseconds), stop)
      await sleep(milliseconds - everyMilliseconds.least, AbortSignal.any([stop, wake.signal]))
      wake = new AbortController()
    },
    check() {
      if (fault !== undefined) throw fault
    },
  }
}

interface View {
  show(nodes: readonly NodeView[], lost: string | undefined): void
  end(): void
}

/** Those that need eyes first, where not all fit. */
const order = ['failed', 'held', 'booting', 'discovered', 'registered', 'disabled', 'ready']

function liveTable({ io }: Context): View {
  const screen = openScreen(io)
  return {
    show(nodes, lost) {
      const counts = Map.groupBy(nodes, ({ state }) => state)
      const summary = [...counts].map(([state, own]) => `${own.length} ${state}`).join(', ')
      const head = `${count(nodes.length, 'node')}${summary === '' ? '' : `: ${summary}`}  ${formatClock(io.now().toISOString())}`
      const room = Math.max(1, screen.rows() - 4)
      const shown =
        nodes.length <= room
          ? nodes
          : nodes.toSorted((a, b) => order.indexOf(a.state) - order.indexOf(b.state)).slice(0, room)
      const rest = nodes.length > shown.length ? [`and ${nodes.length - shown.length} more`] : []
      const table =
        shown.length === 0
          ? []
          : screen.table(
              nodeColumns,
              shown.map((node) => nodeRow(node, io.now())),
            )
      screen.draw([head, ...table, ...rest, ...(lost === undefined ? [] : [`${lost}; trying again`])])
    },
    end: () => screen.close(),
  }
}

/** A line, or with `--json` a document, for each node at first and for each change then. */
function lines({ output, flags, io }: Context): View {
  const known = new Map<string, string>()
  let wasLost = false
  return {
    show(nodes, lost) {
      if ((lost !== undefined) !== wasLost)
        output.note(lost === undefined ? 'the server is back' : `${lost}; trying again`)
      wasLost = lost !== undefined
      for (const node of nodes) {
        const { state, failureCause, reinstall, session, profile, pace, looping } = node
        const now = JSON.stringify([
          state,
          failureCause,
          reinstall,
          session?.id,
          session?.stage,
          profile,
          pace,
          looping?.since,
        ])
        if (known.get(node.name) === now) continue
        known.set(node.name, now)
        if (flags().json) output.jsonLine(node)
        else {
          const about = [
            failureCause,
            session === null ? null : `${session.sequence} at ${session.stage}`,
            reinstall === 'none' ? null : `reinstall ${reinstall}`,
          ].filter((part) => part !== null)
          output.line(
            `${formatClock(io.now().toISOString())}  ${node.name}  `,
            stateWithPace(node),
            `  ${about.join(', ')}`.trimEnd(),
          )
        }
      }
    },
    end: () => {},
  }
}

function parseWait(text: string): number {
  const [, number = '', unit = ''] = /^([1-9]\d{0,5})([smhd])$/.exec(text) ?? []
  const seconds = { s: 1, m: 60, h: 3600, d: 86_400 }[unit]
  if (seconds === undefined) throw new InvalidArgumentError('It must be a time such as 90s, 30m or 2h.')
  return Number(number) * seconds
}
