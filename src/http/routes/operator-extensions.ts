import Type from '../../domain/schema.ts'
import { showExtension, showExtensionKeys, showExtensions } from '../../fleet/extension-view.ts'
import { applyExtension, removeExtension, rotateExtensionKey } from '../../fleet/extensions.ts'
import { pageOf } from '../../fleet/listed.ts'
import { nothing, pageAsked, pageQuery } from '../schemas/answers.ts'
import {
  extensionAnswer,
  extensionBody,
  extensionKeysAnswer,
  extensionPath,
  extensionsAnswer,
  keyRotation,
} from '../schemas/extension.ts'
import { bare, bodiless, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const
const admin = { config: { role: 'admin' } } as const
const revised = { config: { role: 'admin', revised: true } } as const

/** Extensions: which services booting nodes may ask, and by which keys those know that it is us. */
export function extensionRoutes(app: OperatorApp, parts: OperatorParts): void {
  readingRoutes(app, parts)
  changingRoutes(app, parts)
}

function readingRoutes(app: OperatorApp, { context }: OperatorParts): void {
  app.get(
    '/extensions',
    {
      ...viewer,
      schema: {
        ...op('extensions', 'listExtensions', 'Lists extensions by name, without their client keys.'),
        querystring: pageQuery,
        response: { 200: extensionsAnswer },
      },
    },
    async (request) =>
      pageOf(await showExtensions(context), ({ operation }) => operation, pageAsked(request.query)),
  )
  app.get(
    '/extensions/:operation',
    {
      config: { role: 'viewer', revised: true },
      schema: {
        ...op('extensions', 'getExtension', 'Shows an extension, without its client key.'),
        ...bare,
        params: extensionPath,
        response: { 200: extensionAnswer },
      },
    },
    (request) => showExtension(context, request.params.operation),
  )
  app.get(
    '/extension-keys',
    {
      ...viewer,
      schema: {
        ...op('extensions', 'listExtensionKeys', 'Shows the keys that sign what services are asked.'),
        ...bare,
        response: { 200: extensionKeysAnswer },
      },
    },
    () => showExtensionKeys(context),
  )
}

function changingRoutes(app: OperatorApp, { context, auth }: OperatorParts): void {
  app.put(
    '/extensions/:operation',
    {
      ...revised,
      schema: {
        ...op(
          'extensions',
          'applyExtension',
          'Sets what an extension is; its client key is not shown again.',
        ),
        body: extensionBody,
        querystring: nothing,
        params: extensionPath,
        response: { 200: extensionAnswer },
      },
    },
    (request) => applyExtension(context, auth.byOf(request), request.params.operation, request.body),
  )
  app.delete(
    '/extensions/:operation',
    {
      ...revised,
      schema: {
        ...op('extensions', 'deleteExtension', 'Removes an extension that no profile allows.'),
        ...bodiless,
        params: extensionPath,
        response: { 204: Type.Null() },
      },
    },
    async (request, reply) => {
      await removeExtension(context, auth.byOf(request), request.params.operation)
      return reply.code(204).send(null)
    },
  )
  app.post(
    '/extension-keys/rotate',
    {
      ...admin,
      schema: {
        ...op(
          'extensions',
          'rotateExtensionKey',
          'Makes the next key: published now, signing soon, or at once.',
        ),
        body: keyRotation,
        querystring: nothing,
        response: { 200: extensionKeysAnswer },
      },
    },
    (request) => rotateExtensionKey(context, auth.byOf(request), request.body ?? {}),
  )
}
