import type { Command } from 'commander'
import { parseNodeName } from '../../domain/node.ts'
import { isPawlError, PawlError } from '../../errors.ts'
import type { LeavingView, NodeView } from '../answers.ts'
import type { Api } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { sleep, taken, untilInterrupted } from '../follow.ts'
import { formatTime } from '../format.ts'
import type { Field } from '../table.ts'
import { operatorName, type Piece, type Tone, toned } from '../text.ts'
import { argument, exactlyOne, nodePath } from '../values.ts'

interface Flags {
  readonly wait?: true
  readonly cancel?: true
  readonly status?: true
  readonly force?: true
}

/** Adds `pawl node drain-and-reinstall`. */
export function addLeaveCommand(node: Command, context: Context): void {
  const command = node
    .command('drain-and-reinstall')
    .description(
      "Have a node leave its cluster as its profile says, then mark it for reinstall, then reboot it by the profile's hook, or say that it is to be rebooted. The server goes on by itself; asked again it is the same one.",
    )
    .argument('<names...>', 'the node; one at a time')
    .option('--wait', 'follow it until it is over')
    .option('--status', 'only show how far it has come')
    .option('--cancel', 'take it back: the mark, and that nothing is scheduled to it')
    .option('--force', 'although its last reinstalls all failed')
    .action((names: readonly string[], flags: Flags) =>
      withApi(context, async (api) => {
        const path = `${nodePath(theOne(names))}/leave`
        const view = await carryOut(api, path, flags)
        if (flags.wait === true) return follow(context, api, path, view)
        answer(context, view, () => showLeaving(context, view))
      }),
    )
  withExamples(command, [
    'pawl node drain-and-reinstall mlab1 --wait',
    'pawl node drain-and-reinstall mlab1 --status --json',
    'pawl node drain-and-reinstall mlab1 --cancel',
  ])
}

function theOne(names: readonly string[]): string {
  const [name = '', ...more] = names
  if (more.length === 0) return argument(name, parseNodeName)
  throw new PawlError('usage', `one node at a time leaves its cluster, and ${names.length} were named`, {
    hint: 'a cluster that loses several at once may lose its services: wait for each with --wait',
  })
}

function carryOut(api: Api, path: string, { cancel, status, force, wait }: Flags): Promise<LeavingView> {
  if (cancel === true || status === true) {
    exactlyOne({ '--cancel': cancel === true, '--status': status === true })
    if (force === true) throw new PawlError('usage', '--force is for beginning')
    if (status === true) return api.get(path)
    if (wait === true) throw new PawlError('usage', '--wait is not for --cancel')
    return api.post(`${path}/cancel`)
  }
  return api.create(path, force === true ? { force } : {})
}

const everyMilliseconds = 2000

async function follow(context: Context, api: Api, path: string, begun: LeavingView): Promise<void> {
  const { stop, done } = untilInterrupted(context)
  const isJson = context.flags().json === true
  let view = begun
  let told = ''
  try {
    for (;;) {
      const line = lineOf(view)
      if (line !== told && !isJson) context.output.line(line)
      told = line
      if (view.endedAt !== null || stop.aborted) break
      await taken(context, stop)
      await sleep(everyMilliseconds, stop)
      view = await api.get<LeavingView>(path).catch((error: unknown) => {
        // It goes on without us, and a server that is started anew answers again.
        if (!isPawlError(error, 'unreachable')) throw error
        return view
      })
    }
  } finally {
    done()
  }
  if (isJson) context.output.json(view)
  if (view.state === 'failed' || view.state === 'cancelled')
    throw new PawlError('conflict', `node "${view.node}": ${view.cause ?? 'it was cancelled'}`, {
      hint: hintOf(view),
    })
}

function hintOf({ node, cordoned, marked }: LeavingView): string {
  if (marked) return 'it is marked: reboot it yourself, and its next boot reinstalls it'
  if (cordoned)
    return `nothing is scheduled to it: pawl node drain-and-reinstall ${node} --cancel lets the cluster again`
  return 'nothing was marked'
}

function lineOf({ node, state, waitsFor, cause, reboot }: LeavingView): string {
  if (state === 'done' && reboot === 'operator') return `${node}: it has left and is marked: reboot it now`
  if (state === 'done') return `${node}: it has left, is marked and was rebooted`
  const why = cause ?? (waitsFor === null ? null : `waits for ${waitsFor}`)
  return why === null ? `${node}: ${state}` : `${node}: ${state}: ${why}`
}

const tones: Readonly<Partial<Record<LeavingView['state'], Tone>>> = { failed: 'bad', done: 'good' }

function showLeaving({ output }: Context, view: LeavingView): void {
  output.fields([
    { name: 'node', value: toned('strong', view.node) },
    { name: 'leaving', value: stateOf(view) },
    ...waitFields(view),
    { name: 'reboot', value: view.reboot === 'webhook' ? 'by its hook' : 'by you, when it is done' },
    { name: 'scheduled', value: view.cordoned ? 'nothing to it, by this' : 'as it was' },
    { name: 'marked', value: view.marked ? 'for reinstall' : 'no' },
    { name: 'started', value: `${formatTime(view.startedAt)} by ${operatorName(view.startedBy)}` },
    view.endedAt === null
      ? { name: 'until', value: `${formatTime(view.deadline)} at most` }
      : { name: 'ended', value: formatTime(view.endedAt) },
  ])
}

function stateOf({ state, hook }: LeavingView): Piece {
  return toned(tones[state] ?? 'plain', state === 'draining' ? `draining, by ${hook}` : state)
}

function waitFields({ waitsFor, cause }: LeavingView): Field[] {
  if (cause !== null) return [{ name: '', value: toned('bad', cause) }]
  return waitsFor === null ? [] : [{ name: '', value: `waits for ${waitsFor}` }]
}

/** How a node leaves its cluster, for `node show`: nothing where it does not, has long, or was taken back whole. */
export function leavingFields({ leaving }: Pick<NodeView, 'leaving'>): Field[] {
  return leaving === null ? [] : [{ name: 'leaving', value: stateOf(leaving) }, ...waitFields(leaving)]
}
