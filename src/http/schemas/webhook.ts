import Type from '../../domain/schema.ts'
import { deliveryIdPattern, maxUrlCharacters, webhookNamePattern } from '../../domain/webhook.ts'
import type { WebhookDeliveryView, WebhookView } from '../../fleet/webhook-view.ts'
import type { IssuedWebhook } from '../../fleet/webhooks.ts'
import type { PingAnswer } from '../../webhooks/ping.ts'
import { answers, limit, oneOf, type Page, textOrNull } from './answers.ts'

const name = Type.String({ pattern: webhookNamePattern })
const url = Type.String({ maxLength: maxUrlCharacters })
const kinds = Type.Array(Type.String({ maxLength: 64 }), { maxItems: 100 })
const node = Type.Union([Type.String({ maxLength: 253 }), Type.Null()])
const ca = Type.Union([Type.String({ maxLength: 32 * 1024 }), Type.Null()])

/** A webhook to make. */
export const newWebhook = Type.Object(
  { name, url, kinds, node: Type.Optional(node), ca: Type.Optional(ca) },
  { additionalProperties: false },
)

/** What to change of a webhook; null clears. */
export const webhookChanges = Type.Object(
  {
    url: Type.Optional(url),
    kinds: Type.Optional(kinds),
    node: Type.Optional(node),
    ca: Type.Optional(ca),
  },
  { additionalProperties: false, minProperties: 1 },
)

/** From where an enabled webhook goes on. */
export const enabling = Type.Union([
  Type.Null(),
  Type.Object({ fromNow: Type.Optional(Type.Boolean()) }, { additionalProperties: false }),
])

/** Whether the secret before ends at once. */
export const rotation = Type.Union([
  Type.Null(),
  Type.Object({ atOnce: Type.Optional(Type.Boolean()) }, { additionalProperties: false }),
])

/** A webhook's path. */
export const webhookPath = Type.Object({ name })

/** A delivery's path. */
export const deliveryPath = Type.Object({ id: Type.String({ pattern: deliveryIdPattern }) })

const state = oneOf(['waiting', 'delivered', 'dead'])

/** Which deliveries to list. */
export const deliveriesQuery = Type.Object(
  { state: Type.Optional(state), limit: Type.Optional(limit) },
  { additionalProperties: false },
)

const fields = {
  name: Type.String(),
  revision: Type.Integer(),
  url: Type.String(),
  unreadable: Type.Boolean(),
  kinds: Type.Array(Type.String()),
  node: textOrNull,
  ca: textOrNull,
  enabled: Type.Boolean(),
  disabledBy: Type.Union([oneOf(['operator', 'gone']), Type.Null()]),
  waiting: Type.Integer(),
  dead: Type.Integer(),
  failures: Type.Integer(),
  failingSince: textOrNull,
  pausedUntil: textOrNull,
  lastDeliveredAt: textOrNull,
  previousSecretUntil: textOrNull,
  createdAt: Type.String(),
  createdBy: Type.String(),
  updatedAt: Type.String(),
}

/** A webhook, without its secret. */
export const webhookAnswer = answers<WebhookView>()(Type.Object(fields))

/** Every webhook. */
export const webhooksAnswer = answers<Page<WebhookView, string>>()(
  Type.Object({ items: Type.Array(webhookAnswer), next: textOrNull }),
)

/** A webhook with its secret, once. */
export const issuedWebhookAnswer = answers<IssuedWebhook>()(Type.Object({ ...fields, secret: Type.String() }))

/** What came of a ping. */
export const pingAnswer = answers<PingAnswer>()(
  Type.Object({
    webhook: Type.String(),
    ok: Type.Boolean(),
    status: Type.Union([Type.Integer(), Type.Null()]),
    reason: textOrNull,
    body: textOrNull,
    milliseconds: Type.Integer(),
  }),
)

const delivery = answers<WebhookDeliveryView>()(
  Type.Object({
    id: Type.String(),
    webhook: Type.String(),
    event: Type.Integer(),
    kind: Type.String(),
    node: textOrNull,
    state,
    tries: Type.Integer(),
    nextAt: textOrNull,
    result: textOrNull,
    createdAt: Type.String(),
    triedAt: textOrNull,
    endedAt: textOrNull,
  }),
)

/** A webhook's deliveries. */
export const deliveriesAnswer = answers<Page<WebhookDeliveryView, never>>()(
  Type.Object({ items: Type.Array(delivery), next: Type.Null() }),
)

/** How many deliveries are sent again. */
export const redeliveredAnswer = Type.Object({ redelivered: Type.Integer() })
