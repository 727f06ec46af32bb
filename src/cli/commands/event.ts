import { type Command, InvalidArgumentError } from 'commander'
import { eventKinds } from '../../domain/event.ts'
import { PawlError } from '../../errors.ts'
import type { EventView, Page } from '../answers.ts'
import type { Api } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { describeEvent, problemKinds } from '../event-words.ts'
import { withExamples } from '../examples.ts'
import { formatTime } from '../format.ts'
import { toned } from '../text.ts'
import { parseTime } from '../time.ts'
import { addCheckpoint, addKeys } from './event-checkpoint.ts'
import { addExport } from './event-export.ts'
import { follow, newestId } from './event-follow.ts'
import { addVerify } from './event-verify.ts'

interface ListFlags {
  readonly node?: string
  readonly kind?: string
  readonly session?: string
  readonly since?: string
  readonly limit?: number
  readonly follow?: true
}

const pageSize = 1000
const newestByDefault = 100
const newestWhenFollowing = 10

/** Adds `pawl event …`. */
export function addEventCommands(program: Command, context: Context): void {
  const event = program
    .command('event')
    .description('What happened, and whether the record was tampered with.')
  addList(event, context)
  addVerify(event, context)
  addCheckpoint(event, context)
  addKeys(event, context)
  addExport(event, context)
}

function addList(event: Command, context: Context): void {
  const command = event
    .command('list')
    .description(`Events in the order they were written: the newest ${newestByDefault}, or all since a time.`)
    .option('--node <N>', 'only of this node')
    .option('--kind <K>', 'only of this kind: refused, session-opened, ...', parseKind)
    .option('--session <ID>', 'only of this boot session')
    .option('--since <T>', 'from a time on: 2026-11-21, 2026-11-21T06:00Z, or 30m, 2h, 7d ago')
    .option('--limit <N>', 'at most so many', parseLimit)
    .option(
      '--follow',
      `show new ones as they come, behind the newest ${newestWhenFollowing}; --json gives one document a line`,
    )
    .action((flags: ListFlags) =>
      withApi(context, async (api) => {
        if (flags.follow === true) {
          const { node, kind, session } = flags
          const after = await newestId(api)
          const known = await listEvents(
            api,
            flags.since === undefined ? { limit: newestWhenFollowing, ...flags } : flags,
            context.io.now(),
          )
          await follow(context, known, { node, kind, session, after })
          return
        }
        const items = await listEvents(api, flags, context.io.now())
        answer(context, { items, next: null }, () => showList(context, items))
      }),
    )
  withExamples(command, [
    'pawl event list --node mlab1 --kind refused',
    'pawl event list --since 2h',
    'pawl event list --since 2026-11-21T06:00Z --json',
    'pawl event list --follow --node mlab1',
  ])
}

/** Without `--since` the server gives the newest; from a time on its pages are followed to the end. */
async function listEvents(api: Api, flags: ListFlags, now: Date): Promise<EventView[]> {
  const { node, kind, session } = flags
  const since = flags.since === undefined ? undefined : parseTime('--since', flags.since, now)
  const wanted = flags.limit ?? (since === undefined ? newestByDefault : Number.POSITIVE_INFINITY)
  if (since === undefined && wanted > pageSize) {
    throw new PawlError('usage', `--limit ${wanted} is above ${pageSize}`, {
      hint: 'name a time with --since',
    })
  }
  const items: EventView[] = []
  for (let after: number | undefined; items.length < wanted; ) {
    const limit = Math.min(pageSize, wanted - items.length)
    const page: Page<EventView, number> = await api.get('/events', {
      node,
      kind,
      session,
      since,
      after,
      limit,
    })
    items.push(...page.items)
    if (page.next === null) break
    after = page.next
  }
  return items
}

function showList({ output }: Context, events: readonly EventView[]): void {
  if (events.length === 0) {
    output.note('no events')
    return
  }
  output.table(
    [
      { title: 'TIME', min: 20 },
      { title: 'NODE', min: 10, drop: 2 },
      { title: 'KIND', min: 14, drop: 1 },
      { title: 'WHAT', min: 26 },
    ],
    events.map((event) => [
      formatTime(event.at),
      event.node ?? '-',
      problemKinds.has(event.kind) ? toned('warn', event.kind) : event.kind,
      describeEvent(event),
    ]),
  )
}

function parseKind(text: string): string {
  if (Object.hasOwn(eventKinds, text)) return text
  throw new InvalidArgumentError(`The kinds are ${Object.keys(eventKinds).join(', ')}.`)
}

function parseLimit(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number, at least 1.')
}
