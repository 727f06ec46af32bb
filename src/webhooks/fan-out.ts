import type { BootContext } from '../boot/context.ts'
import { deliveryId, payloadOf } from '../domain/webhook.ts'
import { eventView } from '../fleet/event-view.ts'
import { wantedOf } from '../fleet/webhook-wants.ts'
import { listEvents } from '../storage/events.ts'
import type { EventRow } from '../storage/tables.ts'
import type { WebhookDeliveryRow, WebhookRow } from '../storage/webhook-tables.ts'
import { countWaiting, insertDeliveries, listWebhooks, moveCursor } from '../storage/webhooks.ts'

/** So many may wait for one receiver; then its events wait in the log, until it takes some. */
export const maxWaiting = 5000
const pageSize = 500

/**
 * Makes deliveries of the events that each webhook has not seen. The event log itself is the queue: nothing is written when an
 * event is appended, a webhook's cursor moves in the transaction that makes its deliveries, and of several processes
 * one moves it.
 */
export async function fanOut(context: BootContext, most = maxWaiting): Promise<void> {
  for (const webhook of await listWebhooks(context.storage.db)) {
    if (webhook.disabled === null) await advance(context, webhook, most)
  }
}

async function advance(context: BootContext, webhook: WebhookRow, most: number): Promise<void> {
  const { db } = context.storage
  let cursor = Number(webhook.cursor)
  for (;;) {
    const events = await listEvents(db, { after: cursor, limit: pageSize })
    const last = events.at(-1)
    if (last === undefined) return
    const room = most - (await countWaiting(db, webhook.id))
    const wanted = wantedOf(webhook)
    const deliveries = events.filter(wanted).map((event) => deliveryOf(webhook, event, context.clock()))
    // As many as there is room for: the cursor stops behind the last that is taken.
    const taken = deliveries.slice(0, Math.max(0, room))
    const full = taken.length < deliveries.length
    const to = full ? (taken.at(-1)?.event ?? cursor) : Number(last.id)
    if (to === cursor) return
    const moved = await context.storage.transaction(async (tx) => {
      if (!(await moveCursor(tx, webhook.id, cursor, to))) return false
      await insertDeliveries(tx, taken)
      return true
    })
    if (!moved || full || events.length < pageSize) return
    cursor = to
  }
}

function deliveryOf(webhook: WebhookRow, event: EventRow, now: Date): WebhookDeliveryRow {
  const view = eventView(event)
  return {
    id: deliveryId(webhook.id, event.hash),
    webhook: webhook.id,
    event: view.id,
    kind: event.kind,
    node: event.node,
    body: payloadOf(view),
    state: 'waiting',
    tries: 0,
    next_at: now.toISOString(),
    result: null,
    created_at: now.toISOString(),
    tried_at: null,
    ended_at: null,
  }
}
