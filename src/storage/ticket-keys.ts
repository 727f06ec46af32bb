import type { Queries } from './database.ts'
import type { TicketKeyRow } from './ticket-tables.ts'

/** The key of a period, where some process has made it. */
export function findTicketKey(db: Queries, period: number): Promise<TicketKeyRow | undefined> {
  return db.selectFrom('ticket_keys').selectAll().where('period', '=', period).executeTakeFirst()
}

/** Keeps a key unless its period has one: of several processes one is first, and the others read what it made. */
export async function addTicketKey(db: Queries, row: TicketKeyRow): Promise<void> {
  await db
    .insertInto('ticket_keys')
    .values(row)
    .onConflict((conflict) => conflict.column('period').doNothing())
    .execute()
}

/** Puts another key in the place of one that cannot be opened; of several processes one is first. */
export async function replaceTicketKey(db: Queries, row: TicketKeyRow, unopened: string): Promise<void> {
  await db
    .updateTable('ticket_keys')
    .set(row)
    .where('period', '=', row.period)
    .where('sealed', '=', unopened)
    .execute()
}

/** Forgets the keys of periods before this one: what they opened stays shut. */
export async function forgetTicketKeys(db: Queries, before: number): Promise<void> {
  await db.deleteFrom('ticket_keys').where('period', '<', before).execute()
}
