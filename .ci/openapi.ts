import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import type { BootContext } from '../src/boot/context.ts'
import { openConnections } from '../src/http/connections.ts'
import { type OpenApiDocument, openApiOf } from '../src/http/openapi.ts'
import { buildOperatorListener, type OperatorListenerOptions } from '../src/http/operator-listener.ts'

/** A listener that has its routes and serves nothing: all there is to know of the API is in its schemas. `before` sees it before its routes are added. */
export async function bareListener(
  before: (app: FastifyInstance) => void = () => {},
): Promise<FastifyInstance> {
  const nothing = new Proxy({}, { get: () => nothing }) as never
  const context = { storage: { db: nothing }, settings: nothing, clock: () => new Date(0) }
  const limits = {
    maxBodyBytes: 1,
    requestTimeoutSeconds: 1,
    uploadTimeoutSeconds: 1,
    idleTimeoutSeconds: 1,
    maxConnections: 1,
  }
  const known: Partial<OperatorListenerOptions> = {
    ...{ tls: {}, log: pino({ level: 'silent' }), limits },
    trustedProxies: [],
    connections: openConnections({
      maxConnections: 1,
      maxConnectionsPerAddress: 1,
      maxNewConnectionsPerAddress: 1,
    }),
  }
  // Whatever else a listener is made of is used by requests alone.
  const options = new Proxy(known, { get: (target, name) => Reflect.get(target, name) ?? nothing })
  const app = buildOperatorListener(context as unknown as BootContext, options as OperatorListenerOptions)
  before(app)
  await app.ready()
  return app
}

/** The OpenAPI document of this version. */
export async function openApi(): Promise<OpenApiDocument> {
  const app = await bareListener()
  const document = openApiOf(app)
  await app.close()
  return document
}

/** Where the document is published with the release. */
export const publishedPath = join(import.meta.dirname, '..', 'docs', 'openapi.json')

/** The document as it is published. */
export async function publishedText(): Promise<string> {
  return `${JSON.stringify(await openApi(), null, 1)}\n`
}
