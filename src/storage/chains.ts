import type { ChainEnds, ChainedEvent, ChainPosition } from '../domain/event.ts'
import type { Queries } from './database.ts'
import type { ChainRow, EventRow } from './tables.ts'

/** A chain's row as its ends. */
export function endsOf(row: ChainRow): ChainEnds {
  return {
    name: row.name,
    baseSeq: row.base_seq,
    baseHash: row.base_hash,
    headSeq: row.head_seq,
    headHash: row.head_hash,
  }
}

/** An event's row as its chain holds it. */
export function chained(row: EventRow): ChainedEvent {
  const { prev_hash: prevHash, id: _id, ...rest } = row
  return { ...rest, prevHash }
}

/** The ends of every chain, as they are at one moment. */
export async function allChains(db: Queries): Promise<ChainEnds[]> {
  return (await db.selectFrom('chains').selectAll().execute()).map(endsOf)
}

/** The ends of chains by name, a page at a time; of one only, where `name` is given. */
export async function listChains(
  db: Queries,
  filter: { after?: string | undefined; name?: string | undefined; limit: number },
): Promise<ChainEnds[]> {
  let query = db.selectFrom('chains').selectAll().orderBy('name').limit(filter.limit)
  if (filter.after !== undefined) query = query.where('name', '>', filter.after)
  if (filter.name !== undefined) query = query.where('name', '=', filter.name)
  return (await query.execute()).map(endsOf)
}

/** Where to go on reading events chain by chain. */
export interface ChainCursor {
  readonly chain: string
  readonly seq: number
}

/** Events chain by chain, in order within each, from behind a cursor; of one chain only, where `chain` is given. */
export async function listChained(
  db: Queries,
  { after, chain, limit }: { after?: ChainCursor | undefined; chain?: string | undefined; limit: number },
): Promise<ChainedEvent[]> {
  let query = db.selectFrom('events').selectAll().orderBy('chain').orderBy('seq').limit(limit)
  if (chain !== undefined) query = query.where('chain', '=', chain)
  if (after !== undefined) {
    query = query.where((e) =>
      e.or([e('chain', '>', after.chain), e.and([e('chain', '=', after.chain), e('seq', '>', after.seq)])]),
    )
  }
  return (await query.execute()).map((row) => chained(row as unknown as EventRow)) // see listEvents
}

/** The event of each chain at each number; chains and events that are not there are left out. */
export async function eventsAt(db: Queries, positions: readonly ChainPosition[]): Promise<ChainedEvent[]> {
  if (positions.length === 0) return []
  const rows = await db
    .selectFrom('events')
    .selectAll()
    .where((e) =>
      e.or(positions.map(({ chain, seq }) => e.and([e('chain', '=', chain), e('seq', '=', seq)]))),
    )
    .execute()
  return rows.map((row) => chained(row as unknown as EventRow)) // see listEvents
}
