import { readPinned } from '../boot/pin.ts'
import type { PaceEvidence } from '../domain/pace-reason.ts'
import { type RefusalCause, refusalCauses } from '../domain/refusal.ts'
import { isTimed, type TimedStage } from '../domain/usual-times.ts'
import type { Queries } from '../storage/database.ts'
import { listEvents } from '../storage/events.ts'
import type { EventRow, SessionRow } from '../storage/tables.ts'
import { showProcesses, waitingNodes } from './processes.ts'

/** What is the same for every boot that is looked at in one go. */
export interface CommonEvidence {
  readonly handshakes: readonly EventRow[]
  readonly waiting: Awaited<ReturnType<typeof waitingNodes>>
  /** Since when a process of any server runs without a pause; undefined where none says so. */
  readonly serverSince: string | undefined
}

/** The last so many failed handshakes, and events of a node since its stage was opened, are looked at. */
const maxEvents = 200
const fewEvents = 20

/** Reads it once. */
export async function readCommonEvidence(db: Queries): Promise<CommonEvidence> {
  const processes = await showProcesses(db)
  return {
    handshakes: await listEvents(db, { kind: 'handshake-failed', limit: maxEvents, newest: true }),
    waiting: await waitingNodes(db),
    serverSince: processes.map(({ startedAt }) => startedAt).sort()[0],
  }
}

/** A session that is under way, and when its stage was opened. */
export interface Watched {
  readonly node: string
  readonly session: SessionRow
  readonly openedAt: string
  readonly bytes: number
}

/** Gathers what is known of an open stage; undefined for one that takes no time. */
export async function readEvidence(
  db: Queries,
  { node, session, openedAt, bytes }: Watched,
  common: CommonEvidence,
  now: Date,
): Promise<PaceEvidence | undefined> {
  const { stage, last_seen_at: seenAt, source } = session
  if (!isTimed(stage)) return undefined
  const events = await eventsSince(db, node, openedAt)
  const last = (which: (event: EventRow) => boolean, since: string): EventRow | undefined =>
    events.findLast((event) => event.at >= since && which(event))
  const failed = last((one) => one.kind === 'attempt-failed' && one.session === session.id, seenAt)
  const refused = last(
    (one) => one.kind === 'refused' && (one.session === session.id || one.source === source),
    seenAt,
  )
  const other = last((one) => one.kind === 'two-machines', openedAt)
  const handshake = common.handshakes.findLast((one) => one.source === source && one.at >= seenAt)
  const waits = common.waiting.get(node)
  const isAfter = common.serverSince !== undefined && common.serverSince > seenAt
  return {
    stage,
    ...downloadsOf(session, stage),
    failed: failed === undefined ? undefined : wordOf(failed, 'message'),
    refused: refused === undefined ? undefined : causeOf(refused),
    other: other === undefined ? undefined : otherOf(other, source),
    waitsUntil: waits?.until,
    joinWaits: waits?.why,
    handshake: handshake === undefined ? undefined : wordOf(handshake, 'reason'),
    serverSince: isAfter ? common.serverSince : undefined,
    handoverOpened: events.some((one) => one.kind === 'handover-opened' && one.session === session.id),
    redirected: events.some((one) => one.kind === 'download-redirected' && one.session === session.id),
    bytes,
    seconds: (now.getTime() - Date.parse(openedAt)) / 1000,
    silentSeconds: Math.max(0, (now.getTime() - Date.parse(seenAt)) / 1000),
  }
}

/** From the newest back, and few at first: a filter by time would read all that the node ever did. */
async function eventsSince(db: Queries, node: string, since: string): Promise<EventRow[]> {
  let events: EventRow[] = []
  for (const limit of [fewEvents, maxEvents]) {
    const found = await listEvents(db, { node, limit, newest: true })
    events = found.filter(({ at }) => at >= since)
    if (events.length < limit) break
  }
  return events
}

function downloadsOf(
  { pinned: text }: SessionRow,
  stage: TimedStage,
): Pick<PaceEvidence, 'elsewhere' | 'uncounted' | 'totalBytes'> {
  const { images, chain, downloads, artifactBase } = readPinned(text)
  const image = stage === 'stage1' ? images?.stage2 : stage === 'stage2' ? images?.stage3 : undefined
  const sizes = Object.values(image?.artifacts ?? {}).map(({ size }) => size)
  return {
    elsewhere: chain !== undefined,
    uncounted: downloads === 'digest' || artifactBase !== undefined,
    totalBytes: sizes.reduce((sum, size) => sum + size, 0),
  }
}

function wordOf({ detail }: EventRow, name: string): string {
  const value = (JSON.parse(detail) as Record<string, unknown>)[name]
  return typeof value === 'string' && value !== '' ? value.slice(0, 300) : 'without a word'
}

function causeOf(event: EventRow): string {
  const cause = wordOf(event, 'cause')
  return Object.hasOwn(refusalCauses, cause) ? refusalCauses[cause as RefusalCause] : cause // one of its keys
}

function otherOf({ detail, source }: EventRow, own: string): string {
  const { machines } = JSON.parse(detail) as { machines?: readonly { readonly address?: string }[] }
  const address = machines
    ?.map((machine) => machine.address)
    .findLast((one) => one !== undefined && one !== own)
  return address ?? source ?? 'elsewhere'
}
