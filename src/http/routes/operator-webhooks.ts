import Type from '../../domain/schema.ts'
import { pageOf } from '../../fleet/listed.ts'
import { showDeliveries, showWebhook, showWebhooks } from '../../fleet/webhook-view.ts'
import {
  createWebhook,
  disableWebhook,
  enableWebhook,
  redeliver,
  redeliverDead,
  removeWebhook,
  rotateWebhookSecret,
  setWebhook,
} from '../../fleet/webhooks.ts'
import { pingWebhook } from '../../webhooks/ping.ts'
import { nothing, pageAsked, pageQuery } from '../schemas/answers.ts'
import {
  deliveriesAnswer,
  deliveriesQuery,
  deliveryPath,
  enabling,
  issuedWebhookAnswer,
  newWebhook,
  pingAnswer,
  redeliveredAnswer,
  rotation,
  webhookAnswer,
  webhookChanges,
  webhookPath,
  webhooksAnswer,
} from '../schemas/webhook.ts'
import { bare, bodiless, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const
const operator = { config: { role: 'operator' } } as const
const revised = { config: { role: 'admin', revised: true } } as const
const once = { config: { role: 'admin', idempotent: true } } as const
const noContent = { 204: Type.Null() }

/**
 * Webhooks. Where events of the whole fleet go to, and by which secret they are believed, is an admin's to say; whether it
 * works, and to send again, an operator's.
 */
export function webhookRoutes(app: OperatorApp, parts: OperatorParts): void {
  readingRoutes(app, parts)
  changingRoutes(app, parts)
  stateRoutes(app, parts)
  deliveryRoutes(app, parts)
}

function readingRoutes(app: OperatorApp, { context }: OperatorParts): void {
  app.get(
    '/webhooks',
    {
      ...viewer,
      schema: {
        ...op('webhooks', 'listWebhooks', 'Lists webhooks by name, without their secrets.'),
        querystring: pageQuery,
        response: { 200: webhooksAnswer },
      },
    },
    async (request) => pageOf(await showWebhooks(context), ({ name }) => name, pageAsked(request.query)),
  )
  app.get(
    '/webhooks/:name',
    {
      config: { role: 'viewer', revised: true },
      schema: {
        ...op('webhooks', 'getWebhook', 'Shows a webhook, without its secret.'),
        ...bare,
        params: webhookPath,
        response: { 200: webhookAnswer },
      },
    },
    (request) => showWebhook(context, request.params.name),
  )
  app.get(
    '/webhooks/:name/deliveries',
    {
      ...viewer,
      schema: {
        ...op('webhooks', 'listWebhookDeliveries', "Lists a webhook's deliveries, the newest first."),
        querystring: deliveriesQuery,
        params: webhookPath,
        response: { 200: deliveriesAnswer },
      },
    },
    async (request) => {
      const { state, limit = 100 } = request.query
      const items = await showDeliveries(context.storage.db, request.params.name, { state, limit })
      return { items, next: null }
    },
  )
}

function changingRoutes(app: OperatorApp, { context, auth }: OperatorParts): void {
  app.post(
    '/webhooks',
    {
      ...once,
      schema: {
        ...op('webhooks', 'createWebhook', 'Makes a webhook; its secret is shown once.'),
        body: newWebhook,
        querystring: nothing,
        response: { 201: issuedWebhookAnswer },
      },
    },
    async (request, reply) =>
      reply.code(201).send(await createWebhook(context, auth.byOf(request), request.body)),
  )
  app.patch(
    '/webhooks/:name',
    {
      ...revised,
      schema: {
        ...op('webhooks', 'updateWebhook', 'Changes what is given of a webhook and nothing else.'),
        body: webhookChanges,
        querystring: nothing,
        params: webhookPath,
        response: { 200: webhookAnswer },
      },
    },
    (request) => setWebhook(context, auth.byOf(request), request.params.name, request.body),
  )
  app.delete(
    '/webhooks/:name',
    {
      ...revised,
      schema: {
        ...op('webhooks', 'deleteWebhook', 'Removes a webhook with all that waits for it.'),
        ...bodiless,
        params: webhookPath,
        response: noContent,
      },
    },
    async (request, reply) => {
      await removeWebhook(context, auth.byOf(request), request.params.name)
      return reply.code(204).send(null)
    },
  )
}

function stateRoutes(app: OperatorApp, { context, auth }: OperatorParts): void {
  app.post(
    '/webhooks/:name/disable',
    {
      ...revised,
      schema: {
        ...op('webhooks', 'disableWebhook', 'Sends nothing more until the webhook is enabled.'),
        ...bodiless,
        params: webhookPath,
        response: { 200: webhookAnswer },
      },
    },
    (request) => disableWebhook(context, auth.byOf(request), request.params.name),
  )
  app.post(
    '/webhooks/:name/enable',
    {
      ...revised,
      schema: {
        ...op('webhooks', 'enableWebhook', 'Sends again, from where it stopped or from now on.'),
        body: enabling,
        querystring: nothing,
        params: webhookPath,
        response: { 200: webhookAnswer },
      },
    },
    (request) => enableWebhook(context, auth.byOf(request), request.params.name, request.body ?? {}),
  )
  app.post(
    '/webhooks/:name/rotate-secret',
    {
      ...revised,
      schema: {
        ...op('webhooks', 'rotateWebhookSecret', 'Makes a new secret for a webhook; it is shown once.'),
        body: rotation,
        querystring: nothing,
        params: webhookPath,
        response: { 200: issuedWebhookAnswer },
      },
    },
    (request) => rotateWebhookSecret(context, auth.byOf(request), request.params.name, request.body ?? {}),
  )
  app.post(
    '/webhooks/:name/test',
    {
      ...operator,
      schema: {
        ...op('webhooks', 'testWebhook', 'Sends a ping now, once, and says what was answered.'),
        ...bodiless,
        params: webhookPath,
        response: { 200: pingAnswer },
      },
    },
    (request) => pingWebhook(context, auth.byOf(request), request.params.name),
  )
}

function deliveryRoutes(app: OperatorApp, { context, auth }: OperatorParts): void {
  app.post(
    '/webhooks/:name/redeliver-dead',
    {
      ...operator,
      schema: {
        ...op('webhooks', 'redeliverDeadWebhookDeliveries', 'Sends all dead letters of a webhook again.'),
        ...bodiless,
        params: webhookPath,
        response: { 200: redeliveredAnswer },
      },
    },
    (request) => redeliverDead(context, auth.byOf(request), request.params.name),
  )
  app.post(
    '/webhook-deliveries/:id/redeliver',
    {
      ...operator,
      schema: {
        ...op('webhooks', 'redeliverWebhookDelivery', 'Sends an ended delivery again.'),
        ...bodiless,
        params: deliveryPath,
        response: { 200: redeliveredAnswer },
      },
    },
    (request) => redeliver(context, auth.byOf(request), request.params.id),
  )
}
