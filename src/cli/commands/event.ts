import { type Command, InvalidArgumentError } from 'commander'
import { eventKinds } from '../../domain/event.ts'
import { PawlError } from '../../errors.ts'
import type { EventView, Page, VerificationView } from '../answers.ts'
import type { Api } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { describeEvent, problemKinds } from '../event-words.ts'
import { withExamples } from '../examples.ts'
import { count, formatTime } from '../format.ts'
import { toned } from '../text.ts'

interface ListFlags {
  readonly node?: string
  readonly kind?: string
  readonly session?: string
  readonly since?: string
  readonly limit?: number
}

const pageSize = 1000
const newestByDefault = 100

/** Adds `pawl event …`. */
export function addEventCommands(program: Command, context: Context): void {
  const event = program
    .command('event')
    .description('What happened, and whether the record was tampered with.')
  addList(event, context)
  addVerify(event, context)
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
    .action((flags: ListFlags) =>
      withApi(context, async (api) => {
        const items = await listEvents(api, flags, context.io.now())
        answer(context, { items, next: null }, () => showList(context, items))
      }),
    )
  withExamples(command, [
    'pawl event list --node mlab1 --kind refused',
    'pawl event list --since 2h',
    'pawl event list --since 2026-11-21T06:00Z --json',
  ])
}

function addVerify(event: Command, context: Context): void {
  const command = event
    .command('verify')
    .description('Check every event against its chain. Exits 1 and names the first bad event of each chain.')
    .action(() =>
      withApi(context, async (api) => {
        const found = await api.get<VerificationView>('/events/verify')
        answer(context, found, () => showVerified(context, found))
        const [first] = found.faults
        if (found.ok && first === undefined) return
        throw new PawlError(
          'conflict',
          `the event log was changed${first === undefined ? '' : `: ${faultOf(first)}`}`,
          {
            hint: 'restore the database from a backup to see what was there; find out who could write to it',
          },
        )
      }),
    )
  withExamples(command, ['pawl event verify'])
}

/** Without `--since` the server gives the newest; from a time on its pages are followed to the end. */
async function listEvents(api: Api, flags: ListFlags, now: Date): Promise<EventView[]> {
  const { node, kind, session } = flags
  const since = flags.since === undefined ? undefined : parseSince(flags.since, now)
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

const ages = { s: 1, m: 60, h: 3600, d: 86_400 } as const

/** Reads a date, a time (UTC where it names no zone) or an age; returns ISO 8601. */
function parseSince(text: string, now: Date): string {
  const [, number, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  if (number !== undefined && unit !== undefined) {
    const seconds = Number(number) * ages[unit as keyof typeof ages] // the expression allows no other
    const time = new Date(now.getTime() - seconds * 1000)
    if (!Number.isNaN(time.getTime())) return time.toISOString()
  }
  const [, date, clock, zone] =
    /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?)(Z|[+-]\d\d:\d\d)?)?$/.exec(text) ?? []
  const time = new Date(`${date}T${clock ?? '00:00'}${zone ?? 'Z'}`)
  if (!Number.isNaN(time.getTime())) return time.toISOString()
  throw new PawlError('usage', `--since "${text}" is not a time`, {
    hint: 'write 2026-11-21, 2026-11-21T06:00Z, or an age: 30m, 2h, 7d',
  })
}

function showList({ output }: Context, events: readonly EventView[]): void {
  if (events.length === 0) {
    output.note('no events')
    return
  }
  output.table(
    [
      { title: 'TIME', min: 20 },
      { title: 'NODE', min: 8 },
      { title: 'KIND', min: 14 },
      { title: 'WHAT', min: 20 },
    ],
    events.map((event) => [
      formatTime(event.at),
      event.node ?? '-',
      problemKinds.has(event.kind) ? toned('warn', event.kind) : event.kind,
      describeEvent(event),
    ]),
  )
}

function showVerified({ output }: Context, { ok, chains, events, faults, note }: VerificationView): void {
  output.line(
    toned(ok ? 'good' : 'bad', ok ? 'sound' : 'NOT SOUND'),
    `: ${count(events, 'event')} in ${count(chains, 'chain')}`,
  )
  for (const fault of faults) output.line(faultOf(fault))
  output.note(`note: ${note}`)
}

function faultOf({ chain, seq, fault }: VerificationView['faults'][number]): string {
  return `event ${seq} of chain ${chain}: ${fault}`
}

function parseKind(text: string): string {
  if (Object.hasOwn(eventKinds, text)) return text
  throw new InvalidArgumentError(`The kinds are ${Object.keys(eventKinds).join(', ')}.`)
}

function parseLimit(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number, at least 1.')
}
