import type { ChainEnds, ChainedEvent } from '../domain/event.ts'
import { type ChainCursor, listChained, listChains } from '../storage/chains.ts'
import type { Queries } from '../storage/database.ts'
import { type EventFilter, listEvents, type Verification, verifyChains } from '../storage/events.ts'
import type { EventRow } from '../storage/tables.ts'

/** An event as operators see it. */
export interface EventView {
  readonly id: number
  readonly chain: string
  readonly seq: number
  readonly at: string
  readonly kind: string
  readonly node: string | null
  readonly session: string | null
  readonly actor: string
  readonly source: string | null
  readonly detail: Readonly<Record<string, unknown>>
  readonly hash: string
}

/** An event's row as it is shown. */
export function eventView(row: EventRow): EventView {
  const { id, chain, seq, at, kind, node, session, actor, source, hash } = row
  const detail = JSON.parse(row.detail) as Record<string, unknown> // our own column, written by appendEvent
  return { id: Number(id), chain, seq, at, kind, node, session, actor, source, detail, hash }
}

/**
 * Lists events in the order written. From a cursor or a time on, `next` leads to the page behind this one; without
 * either, the newest `limit` are meant, and there is no page behind them.
 */
export async function pageOfEvents(
  db: Queries,
  filter: Omit<EventFilter, 'newest'>,
): Promise<{ items: EventView[]; next: number | null }> {
  const newest = filter.after === undefined && filter.since === undefined
  const rows = await listEvents(db, {
    ...filter,
    settled: true,
    limit: newest ? filter.limit : filter.limit + 1,
    newest,
  })
  const items = rows.slice(0, filter.limit).map(eventView)
  return { items, next: rows.length > filter.limit ? (items.at(-1)?.id ?? null) : null }
}

/** What a check of every chain found. */
export interface VerificationView extends Verification {
  readonly ok: boolean
  readonly note: string
}

/** Reads every chain, and says what this check cannot see. */
export async function verifyEvents(db: Queries): Promise<VerificationView> {
  const found = await verifyChains(db)
  return {
    ok: found.faults.length === 0,
    ...found,
    note: 'this compares the record with itself; what was cut off, set back or made anew is found against a checkpoint kept elsewhere: pawl event verify --checkpoint FILE',
  }
}

/** Events as their chains hold them, and where to go on. */
export interface ChainedPage {
  readonly items: readonly ChainedEvent[]
  readonly next: ChainCursor | null
}

/** Single events. */
export interface PositionsView {
  readonly items: readonly ChainedEvent[]
}

/** A page of chains by name. */
export async function pageOfChains(
  db: Queries,
  { limit, ...filter }: Parameters<typeof listChains>[1],
): Promise<{ items: ChainEnds[]; next: string | null }> {
  const chains = await listChains(db, { ...filter, limit: limit + 1 })
  const items = chains.slice(0, limit)
  return { items, next: chains.length > limit ? (items.at(-1)?.name ?? null) : null }
}

/** A page of events, chain by chain. */
export async function pageOfChained(
  db: Queries,
  filter: Parameters<typeof listChained>[1],
): Promise<ChainedPage> {
  const events = await listChained(db, { ...filter, limit: filter.limit + 1 })
  const items = events.slice(0, filter.limit)
  const last = items.at(-1)
  return {
    items,
    next: events.length > filter.limit && last !== undefined ? { chain: last.chain, seq: last.seq } : null,
  }
}
