import { ChainVerifier } from '../domain/chain-verifier.ts'
import {
  type ChainEnds,
  type ChainedEvent,
  type ChainFault,
  chainEvent,
  chainOf,
  type EventFacts,
  genesisHash,
  nodeChain,
} from '../domain/event.ts'
import { chained, endsOf, listChains } from './chains.ts'
import { hasAppended, isPostgres, lockOfPlace, settledId, tookPlace } from './commit-order.ts'
import type { Queries, Tx } from './database.ts'
import { statement } from './statement.ts'
import type { EventRow } from './tables.ts'

const lockHead = statement<{ chain: string }>()((db, value, postgres) => {
  const query = db.selectFrom('chains').select(['head_seq', 'head_hash']).where('name', '=', value('chain'))
  // The chain's row lock: two processes cannot take one number. SQLite has one writer at a time.
  return postgres ? query.forUpdate() : query
})
/** The same, taking the transaction's place on the way. */
const lockHeadInPlace = statement<{ chain: string }>()((db, value) =>
  db
    .selectFrom('chains')
    .select(['head_seq', 'head_hash'])
    .select(lockOfPlace().as('place'))
    .where('name', '=', value('chain'))
    .forUpdate(),
)
const begin = statement<{ chain: string }>()((db, value) =>
  db
    .insertInto('chains')
    .values({
      ...{ name: value('chain'), base_seq: 0, base_hash: genesisHash },
      ...{ head_seq: 0, head_hash: genesisHash },
    })
    .onConflict((c) => c.doNothing()),
)
type NewEvent = Omit<EventRow, 'id'>
const insert = statement<NewEvent>()((db, value) => db.insertInto('events').values(allOf(value)))
const moveHead = statement<{ chain: string; seq: number; hash: string }>()((db, value) =>
  db
    .updateTable('chains')
    .set({ head_seq: value('seq'), head_hash: value('hash') })
    .where('name', '=', value('chain')),
)
/** Both in one round trip. SQLite takes no such statement, and has no round trips. */
const insertAndMove = statement<NewEvent>()((db, value) =>
  db
    .with('appended', (q) => q.insertInto('events').values(allOf(value)))
    .updateTable('chains')
    .set({ head_seq: value('seq'), head_hash: value('hash') })
    .where('name', '=', value('chain')),
)

function allOf(value: <Name extends keyof NewEvent>(name: Name) => NewEvent[Name]): NewEvent {
  return {
    ...{ chain: value('chain'), seq: value('seq'), at: value('at'), kind: value('kind') },
    ...{ node: value('node'), session: value('session'), actor: value('actor'), source: value('source') },
    ...{ detail: value('detail'), prev_hash: value('prev_hash'), hash: value('hash') },
  }
}

/** Appends an event to its chain: the node's, or `chain` where another is named. */
export async function appendEvent(tx: Tx, facts: EventFacts, chain = chainOf(facts)): Promise<void> {
  const lock = isPostgres(tx) && !hasAppended(tx) ? lockHeadInPlace : lockHead
  let head = await lock.first(tx, { chain })
  if (head === undefined) {
    await begin.change(tx, { chain })
    head = await lock.first(tx, { chain })
  }
  if (head === undefined) throw new Error(`chain ${chain} is not there`)
  tookPlace(tx)
  const event = chainEvent(facts, chain, { seq: head.head_seq, hash: head.head_hash })
  const row = eventRow(event)
  if (isPostgres(tx)) {
    await insertAndMove.change(tx, row)
    return
  }
  await insert.change(tx, row)
  await moveHead.change(tx, { chain, seq: event.seq, hash: event.hash })
}

/** An event just chained, as its row. */
export function eventRow<E extends ChainedEvent>(event: E): Omit<E, 'prevHash'> & { prev_hash: string } {
  const { prevHash, ...columns } = event
  return { ...columns, prev_hash: prevHash }
}

/** Removes a chain's oldest events beyond `keep`; what is left still verifies, from the base that is moved along. */
export async function trimChain(tx: Tx, name: string, keep: number): Promise<void> {
  const chain = await tx.selectFrom('chains').selectAll().where('name', '=', name).executeTakeFirst()
  if (chain === undefined || chain.head_seq - chain.base_seq <= keep) return
  const last = await tx
    .selectFrom('events')
    .select(['seq', 'hash'])
    .where('chain', '=', name)
    .where('seq', '=', chain.head_seq - keep)
    .executeTakeFirst()
  if (last === undefined) return // a gap: leave everything for `event verify` to find
  await tx.deleteFrom('events').where('chain', '=', name).where('seq', '<=', last.seq).execute()
  await tx
    .updateTable('chains')
    .set({ base_seq: last.seq, base_hash: last.hash })
    .where('name', '=', name)
    .execute()
}

/** Which events to list. */
export interface EventFilter {
  readonly node?: string | undefined
  readonly kind?: string | undefined
  readonly session?: string | undefined
  readonly since?: Date | undefined
  /** Only events with a greater id, and none that another could still appear before: the cursor of paging and following. */
  readonly after?: number | undefined
  /** Only events up to this id, which `settledId` has given. */
  readonly upTo?: number | undefined
  /** Only events that no other can appear before any more: on by itself with `after`. */
  readonly settled?: boolean
  readonly limit: number
  /** The newest `limit` (still in order of time) instead of the oldest. */
  readonly newest?: boolean
}

/**
 * Lists events in the order they were written. A node's are those of its chain, whose numbers are in that order too: so they are read by
 * the index that keeps a number from being taken twice, and no boot writes another for them.
 */
export async function listEvents(db: Queries, filter: EventFilter): Promise<EventRow[]> {
  const upTo =
    filter.upTo ?? ((filter.settled ?? filter.after !== undefined) ? await settledId(db) : undefined)
  let query = db.selectFrom('events').selectAll()
  if (filter.node !== undefined) query = query.where('chain', '=', nodeChain(filter.node))
  if (filter.kind !== undefined) query = query.where('kind', '=', filter.kind as EventRow['kind']) // any text: no match
  if (filter.session !== undefined) query = query.where('session', '=', filter.session)
  if (filter.since !== undefined) query = query.where('at', '>=', filter.since.toISOString())
  if (filter.after !== undefined) query = query.where('id', '>', filter.after)
  if (upTo !== undefined) query = query.where('id', '<=', upTo)
  const rows = await query
    .orderBy(filter.node === undefined ? 'id' : 'seq', filter.newest === true ? 'desc' : 'asc')
    .limit(filter.limit)
    .execute()
  // An identity column makes `id` a plain number in both dialects; Generated<> is for inserts only.
  return (filter.newest === true ? rows.reverse() : rows) as unknown as EventRow[]
}

/** What `event verify` found: how much was read, and the first fault of each chain that has one. */
export interface Verification {
  readonly chains: number
  readonly events: number
  readonly faults: readonly ChainFault[]
}

/**
 * Reads every chain from its base to its head, a page at a time. Chains grow meanwhile, and are trimmed: each is read up to
 * where it ended at first, and one that does not fit is looked at again when its beginning has moved.
 */
export async function verifyChains(db: Queries, pageSize = 1000): Promise<Verification> {
  const chains = await db.selectFrom('chains').selectAll().orderBy('name').execute()
  const faults: ChainFault[] = []
  let events = 0
  for (const chain of chains) {
    const result = await verifyMoving(db, endsOf(chain), pageSize)
    events += result.events
    if (result.fault !== undefined) faults.push(result.fault)
  }
  const known = new Set(faults.map(({ chain }) => chain))
  faults.push(...(await strays(db)).filter(({ chain }) => !known.has(chain)))
  return { chains: chains.length, events, faults }
}

/** A beginning that moves under a reader is overtaken by it in the end; so many times is tampering of a kind too. */
const maxLooks = 20

async function verifyMoving(
  db: Queries,
  ends: ChainEnds,
  pageSize: number,
): Promise<{ events: number; fault: ChainFault | undefined }> {
  for (let [now, look] = [ends, 1]; ; look += 1) {
    const result = await verifyChain(db, now, pageSize)
    if (result.fault === undefined || look === maxLooks) return result
    const [again] = await listChains(db, { name: ends.name, limit: 1 })
    if (again === undefined || again.baseSeq <= now.baseSeq) return result
    now = again
  }
}

async function verifyChain(
  db: Queries,
  ends: ChainEnds,
  pageSize: number,
): Promise<{ events: number; fault: ChainFault | undefined }> {
  const verifier = new ChainVerifier(ends)
  let events = 0
  for (let after = ends.baseSeq; ; ) {
    const page = await db
      .selectFrom('events')
      .selectAll()
      .where('chain', '=', ends.name)
      .where('seq', '>', after)
      .where('seq', '<=', ends.headSeq)
      .orderBy('seq')
      .limit(pageSize)
      .execute()
    for (const row of page) {
      events += 1
      const fault = verifier.accept(chained(row as unknown as EventRow))
      if (fault !== undefined) return { events, fault }
      after = row.seq
    }
    if (page.length < pageSize) return { events, fault: verifier.finish() }
  }
}

/** Events outside of their chain's ends, or whose chain's own row is gone. One statement: nothing moves in it. */
async function strays(db: Queries): Promise<ChainFault[]> {
  const rows = await db
    .selectFrom('events')
    .leftJoin('chains', 'chains.name', 'events.chain')
    .select((e) => ['events.chain', e.fn.min('events.seq').as('seq')])
    .where((e) =>
      e.or([
        e('chains.name', 'is', null),
        e('events.seq', '>', e.ref('chains.head_seq')),
        e('events.seq', '<=', e.ref('chains.base_seq')),
      ]),
    )
    .groupBy('events.chain')
    .execute()
  return rows.map((row) => ({ chain: row.chain, seq: Number(row.seq), fault: 'out of order' }))
}
