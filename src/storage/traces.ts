import { sessionOutcomes } from '../domain/stage.ts'
import { settledId } from './commit-order.ts'
import type { Queries } from './database.ts'

const endings = Object.keys(sessionOutcomes) as (keyof typeof sessionOutcomes)[]
const only = 1

/** The end of a session, as the event log has it. */
export interface Ending {
  readonly event: number
  readonly at: string
  readonly node: string
  readonly session: string
}

/** How far traces were exported. The first time nothing of the past is: the cursor begins at the end of the log. */
export async function openTraceCursor(db: Queries): Promise<number> {
  const there = await readCursor(db)
  if (there !== undefined) return there
  const event = await settledId(db)
  await db
    .insertInto('trace_cursor')
    .values({ id: only, event })
    .onConflict((c) => c.doNothing())
    .execute()
  return (await readCursor(db)) ?? event
}

async function readCursor(db: Queries): Promise<number | undefined> {
  const row = await db.selectFrom('trace_cursor').select('event').where('id', '=', only).executeTakeFirst()
  return row === undefined ? undefined : Number(row.event)
}

/** Moves the cursor, unless another process did: says whether it was moved. */
export async function moveTraceCursor(db: Queries, from: number, to: number): Promise<boolean> {
  const result = await db
    .updateTable('trace_cursor')
    .set({ event: to })
    .where('id', '=', only)
    .where('event', '=', from)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** Which ends of sessions are asked for. */
export interface EndingFilter {
  readonly after: number
  /** What `settledId` gave. */
  readonly upTo: number
  readonly limit: number
}

/** Sessions that ended, in the order of the log. */
export async function listEndings(db: Queries, { after, upTo, limit }: EndingFilter): Promise<Ending[]> {
  const rows = await db
    .selectFrom('events')
    .select(['id', 'at', 'node', 'session'])
    .where('kind', 'in', endings)
    .where('id', '>', after as never) // a plain number in both dialects; Generated<> is for inserts only
    .where('id', '<=', upTo as never)
    .orderBy('id')
    .limit(limit)
    .execute()
  return rows.map(({ id, at, node, session }) => ({
    event: Number(id),
    at,
    node: node ?? '',
    session: session ?? '',
  }))
}

/** How many sessions ended behind an event; counts no further than `most`. */
export async function countEndings(db: Queries, after: number, most: number): Promise<number> {
  const row = await db
    .selectFrom((e) =>
      e
        .selectFrom('events')
        .select('id')
        .where('kind', 'in', endings)
        .where('id', '>', after as never)
        .limit(most)
        .as('ended'),
    )
    .select((e) => e.fn.countAll().as('count'))
    .executeTakeFirstOrThrow()
  return Number(row.count)
}
