import type { Command } from 'commander'
import type { ListedSession, Page, Timeline } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { describeEvent, problemKinds } from '../event-words.ts'
import { withExamples } from '../examples.ts'
import { formatClock, formatMegabytes, formatSeconds, formatTime } from '../format.ts'
import type { Output } from '../output.ts'
import type { Column } from '../table.ts'
import { type Tone, toned } from '../text.ts'
import { clientFields, showSessions, showSpans } from '../timeline-view.ts'
import { nodePath } from '../values.ts'

interface Flags {
  readonly session?: string
  readonly sessions?: boolean
  readonly before?: string
}

import { paceFields } from './node-show.ts'

/** Adds `pawl node timeline`. */
export function addTimelineCommand(node: Command, context: Context): void {
  const command = node
    .command('timeline')
    .description('How the last boot of a node went: its stages in order, then what went wrong, in words.')
    .argument('<name>', 'the node')
    .option('--session <ID>', 'an earlier boot session')
    .option('--sessions', 'list the boot sessions that are kept, the latest first')
    .option('--before <ID>', 'with --sessions: those before this one')
    .action((name: string, flags: Flags) =>
      withApi(context, async (api) => {
        if (flags.sessions === true) {
          const path = `${nodePath(name)}/sessions`
          const page = await api.get<Page<ListedSession, string>>(path, { after: flags.before })
          answer(context, page, () => showSessions(context.output, page))
          return
        }
        const timeline = await api.get<Timeline>(`${nodePath(name)}/timeline`, { session: flags.session })
        answer(context, timeline, () => showTimeline(context.output, timeline))
      }),
    )
  withExamples(command, [
    'pawl node timeline mlab1',
    'pawl node timeline mlab1 --sessions',
    'pawl node timeline mlab1 --session 6fkH0cTn3JvS',
  ])
}

function showTimeline(output: Output, timeline: Timeline): void {
  if (timeline.session === null) output.line(`node "${timeline.node}" has not booted yet`)
  else {
    showSession(output, timeline, timeline.session)
    showSpans(output, timeline.stages)
  }
  showProblems(output, timeline)
}

const tones: Readonly<Record<string, Tone>> = {
  ready: 'good',
  failed: 'bad',
  expired: 'bad',
  superseded: 'warn',
  open: 'warn',
}

function showSession(
  output: Output,
  { node, stages }: Timeline,
  session: NonNullable<Timeline['session']>,
): void {
  const { id, traceId, sequence, local, profile, images, source, startedAt, endedAt, state, cause } = session
  output.fields([
    { name: 'node', value: toned('strong', node) },
    {
      name: 'session',
      value: `${id}, ${sequence}${local ? ' from the local disk' : ''}, profile ${profile}`,
    },
    ...(traceId === null ? [] : [{ name: 'trace', value: traceId }]),
    { name: 'images', value: images.length === 0 ? 'none' : images.map(imageOf) },
    { name: 'from', value: source },
    ...clientFields(stages),
    { name: 'began', value: formatTime(startedAt) },
    {
      name: 'ended',
      value:
        endedAt === null
          ? 'not yet'
          : `${formatTime(endedAt)}, after ${secondsBetween(startedAt, endedAt)} s`,
    },
    { name: 'state', value: toned(tones[state] ?? 'warn', cause === null ? state : `${state}: ${cause}`) },
    ...paceFields(session.pace),
  ])
  if (stages.length === 0) return
  const hasUsual = stages.some(({ usualSeconds }) => usualSeconds !== null)
  output.line()
  output.table(
    [
      { title: '', align: 'right' },
      { title: 'STAGE', min: 6 },
      { title: 'AT', min: 9 },
      { title: 'SECONDS', align: 'right', min: 7, drop: 2 },
      ...(hasUsual ? [usualColumn] : []),
      { title: 'MB', align: 'right', min: 6, drop: 1 },
      { title: 'OUTCOME', min: 10 },
    ],
    stages.map(({ stage, at, seconds, usualSeconds, slowAfterSeconds, bytes, outcome }, index) => [
      String(index + 1),
      stage,
      formatClock(at),
      slowAfterSeconds !== null && seconds > slowAfterSeconds
        ? toned('warn', formatSeconds(seconds))
        : formatSeconds(seconds),
      ...(hasUsual ? [usualSeconds === null ? '-' : formatSeconds(usualSeconds)] : []),
      formatMegabytes(bytes),
      toned(tones[outcome] ?? 'plain', outcome),
    ]),
  )
}

/** Only where something is known. */
const usualColumn: Column = { title: 'USUAL', align: 'right', min: 7, drop: 3 }

/** `worker@2, by channel worker/stable, rollout 6fkH0cTn3JvS wave 1`. */
function imageOf({ ref, via }: NonNullable<Timeline['session']>['images'][number]): string {
  if (via === null) return ref
  const { channel, rollout, wave, gets } = via
  if (rollout === undefined) return `${ref}, by channel ${channel}`
  const turn = gets === 'new' ? `wave ${wave}` : 'not its turn yet'
  return `${ref}, by channel ${channel}, rollout ${rollout}: ${turn}`
}

function showProblems(output: Output, { events }: Timeline): void {
  const problems = events.filter((event) => problemKinds.has(event.kind))
  if (problems.length === 0) return
  output.line()
  output.line(toned('dim', 'PROBLEMS'))
  output.fields(problems.map((event) => ({ name: formatTime(event.at), value: describeEvent(event) })))
}

function secondsBetween(from: string, to: string): string {
  return formatSeconds((Date.parse(to) - Date.parse(from)) / 1000)
}
