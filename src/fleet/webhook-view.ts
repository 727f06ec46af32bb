import type { BootContext } from '../boot/context.ts'
import { ifReadable } from '../boot/settings-sealer.ts'
import { quote } from '../domain/node.ts'
import { maskUrl } from '../domain/webhook.ts'
import { PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import type { WebhookDeliveryRow, WebhookRow } from '../storage/webhook-tables.ts'
import {
  countDeliveries,
  type DeliveryCounts,
  findWebhook,
  listDeliveries,
  listWebhooks,
} from '../storage/webhooks.ts'
import { masked } from './profile-secrets.ts'

/** A webhook as operators see it: neither its secret, nor what of its URL may be one. */
export interface WebhookView {
  readonly name: string
  /** Counted up by each change. */
  readonly revision: number
  readonly url: string
  /** The URL or the secret was sealed with another settings key: nothing is sent until both are anew. */
  readonly unreadable: boolean
  readonly kinds: readonly string[]
  readonly node: string | null
  /** PEM: the only roots that its receiver is believed by; null: the system's. */
  readonly ca: string | null
  readonly enabled: boolean
  /** Who or what disabled it: an operator, or its receiver by 410 Gone. */
  readonly disabledBy: 'operator' | 'gone' | null
  readonly waiting: number
  readonly dead: number
  /** Tries that failed since the last that did not. */
  readonly failures: number
  /** Since when it has dead letters and no success. */
  readonly failingSince: string | null
  readonly pausedUntil: string | null
  readonly lastDeliveredAt: string | null
  /** Until when the secret before signs too. */
  readonly previousSecretUntil: string | null
  readonly createdAt: string
  readonly createdBy: string
  readonly updatedAt: string
}

/** An event on its way to a webhook, or at its end. */
export interface WebhookDeliveryView {
  readonly id: string
  readonly webhook: string
  /** The event's id. */
  readonly event: number
  readonly kind: string
  readonly node: string | null
  readonly state: WebhookDeliveryRow['state']
  readonly tries: number
  readonly nextAt: string | null
  /** What came of the last try: a status, or words. */
  readonly result: string | null
  readonly createdAt: string
  readonly triedAt: string | null
  readonly endedAt: string | null
}

/** Where the URL and the secrets of a webhook are sealed. */
export function sealedPlace(id: string, what: 'url' | 'secret'): string {
  return `webhook/${id}/${what}`
}

/** A webhook's URL, opened. */
export function urlOf({ sealer }: Pick<BootContext, 'sealer'>, { id, url }: WebhookRow): URL {
  return new URL(sealer.open(url, sealedPlace(id, 'url')))
}

/** Whether what signs can be opened with this server's key. */
export function isSecretReadable(
  { sealer }: Pick<BootContext, 'sealer'>,
  { id, secret }: Pick<WebhookRow, 'id' | 'secret'>,
): boolean {
  return ifReadable(() => sealer.open(secret, sealedPlace(id, 'secret'))) !== undefined
}

/** A webhook's row as it is shown. */
export function webhookView(context: BootContext, row: WebhookRow, counts?: DeliveryCounts): WebhookView {
  const url = ifReadable(() => urlOf(context, row))
  return {
    name: row.name,
    revision: row.revision,
    url: url === undefined ? masked : maskUrl(url),
    unreadable: url === undefined || !isSecretReadable(context, row),
    kinds: JSON.parse(row.kinds) as string[], // our own column
    node: row.node,
    ca: row.ca,
    enabled: row.disabled === null,
    disabledBy: row.disabled,
    waiting: counts?.waiting ?? 0,
    dead: counts?.dead ?? 0,
    failures: row.failures,
    failingSince: row.failing_since,
    pausedUntil: futureOf(row.paused_until, context.clock()),
    lastDeliveredAt: counts?.lastDeliveredAt ?? null,
    previousSecretUntil: futureOf(row.previous_until, context.clock()),
    createdAt: row.created_at,
    createdBy: row.created_by,
    updatedAt: row.updated_at,
  }
}

/** Shows every webhook, by name. */
export async function showWebhooks(context: BootContext): Promise<WebhookView[]> {
  const { db } = context.storage
  const counts = await countDeliveries(db)
  return (await listWebhooks(db)).map((row) => webhookView(context, row, counts.get(row.id)))
}

/** Shows a webhook; throws `not-found`. */
export async function showWebhook(context: BootContext, name: string): Promise<WebhookView> {
  const { db } = context.storage
  const row = await findWebhook(db, name)
  if (row === undefined) throw noSuchWebhook(name)
  return webhookView(context, row, (await countDeliveries(db, row.id)).get(row.id))
}

/** Shows a webhook's deliveries, the newest first; throws `not-found`. */
export async function showDeliveries(
  db: Queries,
  name: string,
  filter: { readonly state?: WebhookDeliveryRow['state'] | undefined; readonly limit: number },
): Promise<WebhookDeliveryView[]> {
  const webhook = await findWebhook(db, name)
  if (webhook === undefined) throw noSuchWebhook(name)
  return (await listDeliveries(db, webhook.id, filter)).map((row) => deliveryView(row, name))
}

/** A delivery's row as it is shown. */
export function deliveryView(row: WebhookDeliveryRow, webhook: string): WebhookDeliveryView {
  return {
    id: row.id,
    webhook,
    event: Number(row.event),
    kind: row.kind,
    node: row.node,
    state: row.state,
    tries: row.tries,
    nextAt: row.next_at,
    result: row.result,
    createdAt: row.created_at,
    triedAt: row.tried_at,
    endedAt: row.ended_at,
  }
}

/** The error for a webhook that is not there. */
export function noSuchWebhook(name: string): PawlError {
  return new PawlError('not-found', `webhook ${quote(name)} does not exist`, {
    hint: 'list them with pawl webhook list',
  })
}

function futureOf(time: string | null, now: Date): string | null {
  return time === null || time <= now.toISOString() ? null : time
}
