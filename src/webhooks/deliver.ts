import type { BootContext } from '../boot/context.ts'
import { inTransaction, type Work } from '../boot/work.ts'
import { addSeconds } from '../domain/clock.ts'
import { nextTry } from '../domain/webhook.ts'
import { sealedPlace, urlOf } from '../fleet/webhook-view.ts'
import type { WebhookDeliveryRow, WebhookRow } from '../storage/webhook-tables.ts'
import { finishTry, forgetFailures, listWebhooks, trimDeliveries } from '../storage/webhooks.ts'
import type { SendOutcome, WebhookTarget } from './send.ts'

/** What is kept of deliveries that ended. */
const kept = {
  delivered: { days: 7, keep: 1000 },
  dead: { days: 30, keep: 1000 },
} as const

/** Where a webhook is sent now, and with which secrets. */
export function targetOf(context: BootContext, row: WebhookRow): WebhookTarget {
  const open = (sealed: string): string => context.sealer.open(sealed, sealedPlace(row.id, 'secret'))
  const { previous_secret: previous, previous_until: until } = row
  const overlaps = previous !== null && until !== null && until > context.clock().toISOString()
  return {
    url: urlOf(context, row),
    ca: row.ca,
    secrets: [open(row.secret), ...(overlaps ? [open(previous)] : [])],
  }
}

/** Writes down what came of a try, and what follows from it: the next one, a dead letter, the end of the webhook. */
export async function recordOutcome(
  context: BootContext,
  webhook: WebhookRow,
  delivery: WebhookDeliveryRow,
  outcome: SendOutcome,
): Promise<void> {
  await inTransaction(context, async (work) => {
    const tried = { result: resultOf(outcome), tried_at: work.now.toISOString() }
    const status = outcome.kind === 'answered' ? outcome.status : 0
    if (status >= 200 && status < 300) return recordTaken(work, webhook, delivery, tried)
    if (status === 410) return recordGone(work, webhook, delivery, tried)
    await recordFailed(work, webhook, delivery, { ...tried, status, outcome })
  })
}

type Tried = Pick<WebhookDeliveryRow, 'result' | 'tried_at'>

async function recordTaken(
  { tx, now }: Work,
  webhook: WebhookRow,
  delivery: WebhookDeliveryRow,
  tried: Tried,
): Promise<void> {
  const ended = { ...tried, state: 'delivered' as const, next_at: null, ended_at: now.toISOString() }
  await finishTry(tx, delivery, ended)
  await forgetFailures(tx, webhook.id)
}

/** RFC 9110 §15.5.11: gone for good. What waits stays, for an operator to enable the webhook or to remove it. */
async function recordGone(
  { tx, now, event }: Work,
  webhook: WebhookRow,
  delivery: WebhookDeliveryRow,
  tried: Tried,
): Promise<void> {
  await finishTry(tx, delivery, { ...tried, next_at: now.toISOString() })
  const changed = await tx
    .updateTable('webhooks')
    .set((e) => ({ disabled: 'gone' as const, revision: e('revision', '+', 1) }))
    .where('id', '=', webhook.id)
    .where('disabled', 'is', null)
    .executeTakeFirst()
  if (changed.numUpdatedRows === 0n) return
  await event({ kind: 'webhook-disabled', ...byServer, detail: { webhook: webhook.name, cause: 'gone' } })
}

async function recordFailed(
  { context, tx, now, event }: Work,
  webhook: WebhookRow,
  delivery: WebhookDeliveryRow,
  { status, outcome, ...tried }: Tried & { readonly status: number; readonly outcome: SendOutcome },
): Promise<void> {
  const retryAfterSeconds = outcome.kind === 'answered' ? outcome.retryAfterSeconds : undefined
  const [byte = 0] = context.randomBytes(1)
  const next = nextTry(delivery.tries, now, { retryAfterSeconds, random: byte / 256 })
  // Too many requests, or no service: what else waits for this receiver waits as long.
  const asked = (status === 429 || status === 503) && retryAfterSeconds !== undefined
  const pause = asked && next !== undefined ? { paused_until: pausedUntil(now, retryAfterSeconds) } : {}
  const last = next === undefined
  const written = await finishTry(tx, delivery, {
    ...tried,
    ...(last
      ? { state: 'dead', next_at: null, ended_at: now.toISOString() }
      : { next_at: next.toISOString() }),
  })
  if (!written) return
  await tx
    .updateTable('webhooks')
    .set((e) => ({ failures: e('failures', '+', 1), ...pause }))
    .where('id', '=', webhook.id)
    .execute()
  if (!last) return
  const changed = await tx
    .updateTable('webhooks')
    .set({ failing_since: now.toISOString() })
    .where('id', '=', webhook.id)
    .where('failing_since', 'is', null)
    .executeTakeFirst()
  if (changed.numUpdatedRows === 0n) return // told once, until it takes something again
  const { id, kind, tries } = delivery
  const detail = { webhook: webhook.name, delivery: id, of: kind, tries, result: tried.result }
  await event({ kind: 'webhook-failing', ...byServer, detail })
}

const longestPauseSeconds = 3600

function pausedUntil(now: Date, seconds: number): string {
  return addSeconds(now, Math.min(seconds, longestPauseSeconds)).toISOString()
}

const byServer = { node: null, session: null, actor: 'server', source: null } as const

/** A status, or words of ours: nothing of what a receiver answers is kept. */
function resultOf(outcome: SendOutcome): string {
  if (outcome.kind === 'failed') return outcome.reason
  const { status } = outcome
  return status >= 300 && status < 400 ? `${status}: redirects are not followed` : String(status)
}

/** Removes what ended long ago. */
export async function trimEnded(context: BootContext): Promise<void> {
  const { db } = context.storage
  for (const { id } of await listWebhooks(db)) {
    for (const state of ['delivered', 'dead'] as const) {
      const { days, keep } = kept[state]
      await trimDeliveries(db, id, { state, before: addSeconds(context.clock(), -days * 86_400), keep })
    }
  }
}
