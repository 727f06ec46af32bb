import type { Queries, Tx } from './database.ts'
import type { WebhookDeliveryRow, WebhookRow } from './webhook-tables.ts'

/** Every webhook, by name. */
export function listWebhooks(db: Queries): Promise<WebhookRow[]> {
  return db.selectFrom('webhooks').selectAll().orderBy('name').execute()
}

/** Finds a webhook by name. */
export function findWebhook(db: Queries, name: string): Promise<WebhookRow | undefined> {
  return db.selectFrom('webhooks').selectAll().where('name', '=', name).executeTakeFirst()
}

/** Finds a webhook by id. */
export function findWebhookById(db: Queries, id: string): Promise<WebhookRow | undefined> {
  return db.selectFrom('webhooks').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Finds a webhook, and keeps others from changing it until the transaction ends. */
export function lockWebhook(tx: Tx, name: string): Promise<WebhookRow | undefined> {
  return tx
    .updateTable('webhooks')
    .set((e) => ({ updated_at: e.ref('updated_at') }))
    .where('name', '=', name)
    .returningAll()
    .executeTakeFirst()
}

/** Adds a webhook. */
export async function insertWebhook(tx: Tx, row: WebhookRow): Promise<void> {
  await tx.insertInto('webhooks').values(row).execute()
}

/** Changes a webhook. */
export async function updateWebhook(
  db: Queries,
  id: string,
  changes: Partial<Omit<WebhookRow, 'id'>>,
): Promise<void> {
  await db.updateTable('webhooks').set(changes).where('id', '=', id).execute()
}

/**
 * A webhook took something: it fails no more. Looks at what is written now, and not at what the caller knew before it sent: another try
 * may have failed meanwhile. A pause that was asked for meanwhile stays.
 */
export async function forgetFailures(tx: Tx, id: string): Promise<void> {
  await tx
    .updateTable('webhooks')
    .set({ failures: 0, failing_since: null })
    .where('id', '=', id)
    .where((e) => e.or([e('failures', '<>', 0), e('failing_since', 'is not', null)]))
    .execute()
}

/** Removes a webhook with all that is on its way to it. */
export async function deleteWebhook(tx: Tx, id: string): Promise<void> {
  await tx.deleteFrom('webhooks').where('id', '=', id).execute()
}

/** Moves the cursor, unless another process did: says whether it was moved. */
export async function moveCursor(tx: Tx, id: string, from: number, to: number): Promise<boolean> {
  const result = await tx
    .updateTable('webhooks')
    .set({ cursor: to })
    .where('id', '=', id)
    .where('cursor', '=', from)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** Adds deliveries; those that are there already stay as they are. */
export async function insertDeliveries(tx: Tx, rows: readonly WebhookDeliveryRow[]): Promise<void> {
  for (let at = 0; at < rows.length; at += 50) {
    await tx
      .insertInto('webhook_deliveries')
      .values(rows.slice(at, at + 50))
      .onConflict((c) => c.doNothing())
      .execute()
  }
}

/** What waits for a webhook, and what it did not take. */
export interface DeliveryCounts {
  readonly waiting: number
  readonly dead: number
  /** When it last took one, as far as that is kept. */
  readonly lastDeliveredAt: string | null
}

/** Counts the deliveries of every webhook, or of one, by its id. */
export async function countDeliveries(db: Queries, webhook?: string): Promise<Map<string, DeliveryCounts>> {
  let query = db
    .selectFrom('webhook_deliveries')
    .select((e) => ['webhook', 'state', e.fn.countAll().as('count'), e.fn.max('ended_at').as('last')])
  if (webhook !== undefined) query = query.where('webhook', '=', webhook)
  const counts = new Map<string, DeliveryCounts>()
  for (const row of await query.groupBy(['webhook', 'state']).execute()) {
    const before = counts.get(row.webhook) ?? { waiting: 0, dead: 0, lastDeliveredAt: null }
    counts.set(
      row.webhook,
      row.state === 'delivered'
        ? { ...before, lastDeliveredAt: row.last }
        : { ...before, [row.state]: Number(row.count) },
    )
  }
  return counts
}

/** How many deliveries wait for a webhook. */
export async function countWaiting(db: Queries, webhook: string): Promise<number> {
  const row = await db
    .selectFrom('webhook_deliveries')
    .select((e) => e.fn.countAll().as('count'))
    .where('webhook', '=', webhook)
    .where('state', '=', 'waiting')
    .executeTakeFirstOrThrow()
  return Number(row.count)
}

/** A webhook's deliveries in one state or in all: those that wait by when they are due, the others the newest first. */
export function listDeliveries(
  db: Queries,
  webhook: string,
  filter: { readonly state?: WebhookDeliveryRow['state'] | undefined; readonly limit: number },
): Promise<WebhookDeliveryRow[]> {
  let query = db.selectFrom('webhook_deliveries').selectAll().where('webhook', '=', webhook)
  if (filter.state !== undefined) query = query.where('state', '=', filter.state)
  if (filter.state === 'waiting') query = query.orderBy('next_at')
  return query.orderBy('created_at', 'desc').orderBy('event', 'desc').limit(filter.limit).execute()
}

/** What is due for a webhook now, the longest due first. */
export function listDue(
  db: Queries,
  webhook: string,
  now: Date,
  limit: number,
): Promise<WebhookDeliveryRow[]> {
  return db
    .selectFrom('webhook_deliveries')
    .selectAll()
    .where('webhook', '=', webhook)
    .where('state', '=', 'waiting')
    .where('next_at', '<=', now.toISOString())
    .orderBy('next_at')
    .orderBy('event')
    .limit(limit)
    .execute()
}

/**
 * Takes a try of a delivery until `until`: of several processes one gets it, and says true. Nobody gets one of a webhook that
 * is disabled or pauses by now: what the caller knew of it can be older than what came of the try before.
 */
export async function claimDelivery(
  db: Queries,
  { id, webhook, tries }: WebhookDeliveryRow,
  now: Date,
  until: Date,
): Promise<boolean> {
  const result = await db
    .updateTable('webhook_deliveries')
    .set({ tries: tries + 1, next_at: until.toISOString() })
    .where('id', '=', id)
    .where('state', '=', 'waiting')
    .where('tries', '=', tries)
    .where(({ exists, selectFrom }) =>
      exists(
        selectFrom('webhooks')
          .select('id')
          .where('id', '=', webhook)
          .where('disabled', 'is', null)
          .where((e) => e.or([e('paused_until', 'is', null), e('paused_until', '<=', now.toISOString())])),
      ),
    )
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** Writes down what came of a try, unless another process took the next one meanwhile: says whether it was written. */
export async function finishTry(
  db: Queries,
  { id, tries }: { readonly id: string; readonly tries: number },
  changes: Partial<WebhookDeliveryRow>,
): Promise<boolean> {
  const result = await db
    .updateTable('webhook_deliveries')
    .set(changes)
    .where('id', '=', id)
    .where('state', '=', 'waiting')
    .where('tries', '=', tries)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** Finds a delivery. */
export function findDelivery(db: Queries, id: string): Promise<WebhookDeliveryRow | undefined> {
  return db.selectFrom('webhook_deliveries').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Makes ended deliveries wait again from their first try on: one by its id, or all dead letters of a webhook. Returns their ids. */
export async function restartDeliveries(
  tx: Tx,
  which: { readonly id: string } | { readonly deadOf: string },
  now: Date,
): Promise<string[]> {
  const update = tx
    .updateTable('webhook_deliveries')
    .set({ state: 'waiting', tries: 0, next_at: now.toISOString(), ended_at: null })
  const rows = await ('id' in which
    ? update.where('id', '=', which.id).where('state', '<>', 'waiting')
    : update.where('webhook', '=', which.deadOf).where('state', '=', 'dead')
  )
    .returning('id')
    .execute()
  return rows.map(({ id }) => id)
}

/** Removes ended deliveries of a webhook in one state: those that ended before a time, and the oldest beyond `keep`. */
export async function trimDeliveries(
  db: Queries,
  webhook: string,
  {
    state,
    before,
    keep,
  }: { readonly state: 'delivered' | 'dead'; readonly before: Date; readonly keep: number },
): Promise<void> {
  const oldestKept = await db
    .selectFrom('webhook_deliveries')
    .select('ended_at')
    .where('webhook', '=', webhook)
    .where('state', '=', state)
    .orderBy('ended_at', 'desc')
    .offset(keep)
    .limit(1)
    .executeTakeFirst()
  const limit = [before.toISOString(), oldestKept?.ended_at ?? ''].sort()[1] ?? ''
  await db
    .deleteFrom('webhook_deliveries')
    .where('webhook', '=', webhook)
    .where('state', '=', state)
    .where('ended_at', '<=', limit)
    .execute()
}
