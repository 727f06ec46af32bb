import type { EventView, Page } from '../answers.ts'
import type { Api } from '../api.ts'
import type { Context } from '../context.ts'
import { describeEvent, problemKinds } from '../event-words.ts'
import { type Followed, followEvents, taken, untilInterrupted } from '../follow.ts'
import { formatTime } from '../format.ts'
import { toned } from '../text.ts'

/** The id of the newest event, whatever it is about: what comes behind it is new. */
export async function newestId(api: Api): Promise<number> {
  const page: Page<EventView, number> = await api.get('/events', { limit: 1 })
  return page.items[0]?.id ?? 0
}

/** Shows events that are there, then each new one, until a signal comes or nobody reads any more. */
export async function follow(
  context: Context,
  known: readonly EventView[],
  followed: Followed & { after: number },
): Promise<void> {
  const { stop, done } = untilInterrupted(context)
  const { output } = context
  try {
    for (const event of known) show(context, event)
    const after = Math.max(followed.after, known.at(-1)?.id ?? 0)
    const events = followEvents(context, { ...followed, after }, stop, (lost) =>
      output.note(lost === undefined ? 'the server is back' : `${lost.message}; trying again`),
    )
    for await (const event of events) {
      show(context, event)
      await taken(context, stop)
    }
  } finally {
    done()
  }
}

function show({ output, flags }: Context, event: EventView): void {
  if (flags().json) {
    output.jsonLine(event)
    return
  }
  output.line(
    formatTime(event.at),
    `  ${(event.node ?? '-').padEnd(16)}  `,
    problemKinds.has(event.kind) ? toned('warn', event.kind.padEnd(18)) : event.kind.padEnd(18),
    `  ${describeEvent(event)}`,
  )
}
