import type { BootContext } from '../boot/context.ts'
import { readPinned } from '../boot/pin.ts'
import { isPawlError } from '../errors.ts'
import { type EventView, eventView } from '../fleet/event-view.ts'
import { type TimelineSession, type TimelineStage, timelineOf } from '../fleet/timeline.ts'
import { listEvents } from '../storage/events.ts'
import { findNode } from '../storage/nodes.ts'
import { findSession } from '../storage/sessions.ts'

/** All that a trace is made of. */
export interface BootStory {
  readonly node: string
  /** The node's label `site`. */
  readonly site: string | undefined
  readonly session: TimelineSession
  readonly stages: readonly TimelineStage[]
  /** What evidence the session's profile required. */
  readonly evidence: readonly string[]
  /** The session's own events, and those of its node in its time that name no session: refusals. In order. */
  readonly events: readonly EventView[]
}

const maxOwn = 200
const maxOthers = 200

/** Reads the story of a session that has ended; undefined where its node was removed since. */
export async function readStory(
  context: BootContext,
  node: string,
  session: string,
): Promise<BootStory | undefined> {
  const { db } = context.storage
  try {
    const { session: told, stages } = await timelineOf(context, node, session)
    const row = await findSession(db, session)
    const labels = (await findNode(db, node))?.labels
    if (told === null || row === undefined || labels === undefined) return undefined
    const { site } = JSON.parse(labels) as Record<string, string> // our own row
    const { evidence } = readPinned(row.pinned)
    return { node, site, session: told, stages, evidence, events: await eventsOf(context, node, told) }
  } catch (error) {
    if (isPawlError(error, 'not-found')) return undefined
    throw error
  }
}

async function eventsOf(context: BootContext, node: string, session: TimelineSession): Promise<EventView[]> {
  const { db } = context.storage
  const own = await listEvents(db, { session: session.id, limit: maxOwn, newest: true })
  const since = new Date(session.startedAt)
  // Behind the one that opened it: by the time alone all would be read that the node did before.
  const opened = own.find(({ kind }) => kind === 'session-opened' || kind === 'booted-local')
  const behind = opened === undefined ? {} : { after: Number(opened.id), settled: false }
  const around = await listEvents(db, { node, since, limit: maxOthers, ...behind })
  const until = session.endedAt ?? session.lastSeenAt
  const others = around.filter((event) => event.session === null && event.at <= until)
  return [...own, ...others].sort((a, b) => Number(a.id) - Number(b.id)).map(eventView)
}
