import type { BootContext } from '../boot/context.ts'
import { addSeconds } from '../domain/clock.ts'
import { parseWebhookName, secretOverlapSeconds, webhookSecret } from '../domain/webhook.ts'
import { PawlError } from '../errors.ts'
import { settledId } from '../storage/commit-order.ts'
import type { WebhookRow } from '../storage/webhook-tables.ts'
import {
  countDeliveries,
  deleteWebhook,
  findDelivery,
  findWebhook,
  insertWebhook,
  lockWebhook,
  restartDeliveries,
  updateWebhook,
} from '../storage/webhooks.ts'
import { type By, type Change, change } from './change.ts'
import { parseCertificates } from './outgoing-settings.ts'
import { requireRevision } from './revision.ts'
import { columnsOf, parseNode, settingsOf, type WebhookSettings } from './webhook-settings.ts'
import {
  isSecretReadable,
  noSuchWebhook,
  sealedPlace,
  type WebhookView,
  webhookView,
} from './webhook-view.ts'

/** A webhook with its secret, which is shown this once. */
export interface IssuedWebhook extends WebhookView {
  readonly secret: string
}

const secretBytes = 32
const maxWebhooks = 100

/** Makes a webhook: every event committed from now on is sent. Throws `exists`, `invalid`. */
export function createWebhook(
  context: BootContext,
  by: By,
  asked: WebhookSettings & { readonly name: string },
): Promise<IssuedWebhook> {
  return change(context, by, async ({ tx, now, note }) => {
    const name = parseWebhookName(asked.name)
    if ((await findWebhook(tx, name)) !== undefined) {
      throw new PawlError('exists', `webhook "${name}" exists`, {
        hint: `change it with pawl webhook set ${name}`,
      })
    }
    const { count } = await tx
      .selectFrom('webhooks')
      .select((e) => e.fn.countAll().as('count'))
      .executeTakeFirstOrThrow()
    // Each one reads every event.
    if (Number(count) >= maxWebhooks)
      throw new PawlError('conflict', `there are ${maxWebhooks} webhooks already`)
    const id = Buffer.from(context.randomBytes(12)).toString('base64url')
    const secret = webhookSecret(context.randomBytes(secretBytes))
    const row: WebhookRow = {
      id,
      name,
      ...columnsOf(context, id, asked),
      node: parseNode(asked.node ?? null),
      ca: parseCertificates(asked.ca ?? null, 'ca'),
      secret: context.sealer.seal(secret, sealedPlace(id, 'secret')),
      previous_secret: null,
      previous_until: null,
      disabled: null,
      cursor: await settledId(tx), // not the newest: on PostgreSQL an earlier one may still be on its way
      paused_until: null,
      failures: 0,
      failing_since: null,
      revision: 1,
      created_at: now.toISOString(),
      created_by: by.actor,
      updated_at: now.toISOString(),
    }
    await insertWebhook(tx, row)
    const view = webhookView(context, row)
    await note('webhook-created', null, { webhook: name, before: null, after: settingsOf(view) })
    return { ...view, secret }
  })
}

/** Changes what is given and nothing else. Throws `not-found`, `invalid`. */
export function setWebhook(
  context: BootContext,
  by: By,
  name: string,
  asked: Partial<WebhookSettings>,
): Promise<WebhookView> {
  return changeWebhook(context, by, name, async ({ note }, row) => {
    const changes = {
      ...columnsOf(context, row.id, asked),
      ...(asked.node === undefined ? {} : { node: parseNode(asked.node) }),
      ...(asked.ca === undefined ? {} : { ca: parseCertificates(asked.ca, 'ca') }),
    }
    const before = settingsOf(webhookView(context, row))
    const after = settingsOf(webhookView(context, { ...row, ...changes }))
    // What is masked of a URL may be what changed: a URL that is given is a change.
    if (JSON.stringify(before) === JSON.stringify(after) && asked.url === undefined) return {}
    await note('webhook-changed', null, { webhook: name, before, after })
    return changes
  })
}

/** Removes a webhook; what was on its way is not sent any more. Throws `not-found`. */
export function removeWebhook(context: BootContext, by: By, name: string): Promise<void> {
  return change(context, by, async (change) => {
    const { tx, note } = change
    const row = await lockWebhook(tx, name)
    if (row === undefined) throw noSuchWebhook(name)
    await requireRevision(change, { kind: 'webhook', name }, row.revision)
    const view = webhookView(context, row, (await countDeliveries(tx, row.id)).get(row.id))
    await deleteWebhook(tx, row.id)
    const { waiting, dead } = view
    await note('webhook-removed', null, {
      webhook: name,
      before: settingsOf(view),
      after: null,
      waiting,
      dead,
    })
  })
}

/** Sends nothing more until it is enabled. What waits goes on waiting. Again it changes nothing. Throws `not-found`. */
export function disableWebhook(context: BootContext, by: By, name: string): Promise<WebhookView> {
  return changeWebhook(context, by, name, async ({ note }, row) => {
    if (row.disabled !== null) return {}
    await note('webhook-disabled', null, { webhook: name, cause: 'operator' })
    return { disabled: 'operator' }
  })
}

/** Sends again: from where it stopped, or with `fromNow` only what happens from now on. Throws `not-found`. */
export function enableWebhook(
  context: BootContext,
  by: By,
  name: string,
  { fromNow = false }: { readonly fromNow?: boolean } = {},
): Promise<WebhookView> {
  return changeWebhook(context, by, name, async ({ tx, note }, row) => {
    if (row.disabled === null && !fromNow) return {}
    if (fromNow) {
      await tx
        .deleteFrom('webhook_deliveries')
        .where('webhook', '=', row.id)
        .where('state', '=', 'waiting')
        .execute()
    }
    const cursor = fromNow ? { cursor: await settledId(tx) } : {}
    await note('webhook-enabled', null, { webhook: name, fromNow })
    return { disabled: null, paused_until: null, failures: 0, ...cursor }
  })
}

/** Makes a new secret, shown once. The one before, where it can be opened, signs too for a day, or with `atOnce` no more. Throws `not-found`. */
export async function rotateWebhookSecret(
  context: BootContext,
  by: By,
  name: string,
  { atOnce = false }: { readonly atOnce?: boolean } = {},
): Promise<IssuedWebhook> {
  const secret = webhookSecret(context.randomBytes(secretBytes))
  const view = await changeWebhook(context, by, name, async ({ now, note }, row) => {
    const ends = atOnce || !isSecretReadable(context, row)
    const changes = {
      secret: context.sealer.seal(secret, sealedPlace(row.id, 'secret')),
      previous_secret: ends ? null : row.secret,
      previous_until: ends ? null : addSeconds(now, secretOverlapSeconds).toISOString(),
    }
    await note('webhook-secret-rotated', null, { webhook: name, previousUntil: changes.previous_until })
    return changes
  })
  return { ...view, secret }
}

/** Sends an ended delivery again, from its first try on. Throws `not-found`, and `conflict` for one that still waits. */
export function redeliver(
  context: BootContext,
  by: By,
  id: string,
): Promise<{ readonly redelivered: number }> {
  return change(context, by, async ({ tx, now, note }) => {
    const row = await findDelivery(tx, id)
    if (row === undefined) {
      throw new PawlError('not-found', `no delivery has the id ${id}`, {
        hint: 'list them with pawl webhook deliveries NAME; ended ones are kept for some time only',
      })
    }
    const [restarted] = await restartDeliveries(tx, { id }, now)
    if (restarted === undefined)
      throw new PawlError('conflict', `delivery ${id} still waits for its next try`)
    const { name } = await tx
      .selectFrom('webhooks')
      .select('name')
      .where('id', '=', row.webhook)
      .executeTakeFirstOrThrow()
    await note('webhook-redelivered', null, { webhook: name, delivery: id, count: 1 })
    return { redelivered: 1 }
  })
}

/** Sends all dead letters of a webhook again. Throws `not-found`. */
export function redeliverDead(
  context: BootContext,
  by: By,
  name: string,
): Promise<{ readonly redelivered: number }> {
  return change(context, by, async ({ tx, now, note }) => {
    const row = await lockWebhook(tx, name)
    if (row === undefined) throw noSuchWebhook(name)
    const { length: count } = await restartDeliveries(tx, { deadOf: row.id }, now)
    if (count > 0) await note('webhook-redelivered', null, { webhook: name, delivery: null, count })
    return { redelivered: count }
  })
}

/** Changes a webhook under its lock, and counts its revision up where something changes. */
async function changeWebhook(
  context: BootContext,
  by: By,
  name: string,
  apply: (change: Change, row: WebhookRow) => Promise<Partial<WebhookRow>>,
): Promise<WebhookView> {
  return change(context, by, async (change) => {
    const row = await lockWebhook(change.tx, name)
    if (row === undefined) throw noSuchWebhook(name)
    await requireRevision(change, { kind: 'webhook', name }, row.revision)
    const changes = await apply(change, row)
    const all =
      Object.keys(changes).length === 0
        ? row
        : { ...row, ...changes, revision: row.revision + 1, updated_at: change.now.toISOString() }
    if (all !== row)
      await updateWebhook(change.tx, row.id, {
        ...changes,
        revision: all.revision,
        updated_at: all.updated_at,
      })
    const counts = await countDeliveries(change.tx, row.id)
    return webhookView(context, all, counts.get(row.id))
  })
}
