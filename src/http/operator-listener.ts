import { randomUUID } from 'node:crypto'
import type { Server as HttpsServer } from 'node:https'
import Fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifySchemaValidationError,
  LogController,
} from 'fastify'
import type { Logger } from 'pino'
import type { BootContext } from '../boot/context.ts'
import { quote } from '../domain/node.ts'
import { PawlError } from '../errors.ts'
import type { CheckpointSigner } from '../fleet/checkpoints.ts'
import type { ClientCertificateIssuer } from '../fleet/operator-certificates.ts'
import type { CodeSigningIssuer } from '../fleet/publishers.ts'
import type { ArtifactStore } from '../images/artifacts.ts'
import { answerConditions, withConditions } from './conditions.ts'
import type { Connections } from './connections.ts'
import { openEventStreams, type StreamLimits, streamLimits } from './event-streams.ts'
import { lateSchemas } from './late-schemas.ts'
import { countConnections, limitOptions, type OperatorListenerLimits } from './limits.ts'
import { addOpenApi } from './openapi.ts'
import { apiRoutes } from './operator-api.ts'
import { operatorAuth } from './operator-auth.ts'
import { asPawlError, problemOf } from './problem.ts'
import type { OperatorApp, OperatorParts } from './routes/operator-app.ts'
import { healthRoutes } from './routes/operator-events.ts'
import { type MetricsAnswers, metricsRoutes } from './routes/operator-metrics.ts'
import { signInRoutes } from './routes/sign-in.ts'
import { webRoutes } from './routes/web.ts'
import type { SignIn } from './sign-in/options.ts'
import { sourceOf } from './source.ts'

/** What the listener is made of. */
export interface OperatorListenerOptions {
  /** Key and certificate, for node:tls. */
  readonly tls: Readonly<Record<string, unknown>>
  readonly log: Logger
  readonly limits: OperatorListenerLimits
  /** Counts its connections. Left out: nobody does. */
  readonly connections?: Connections
  readonly trustedProxies?: readonly string[]
  readonly artifacts: ArtifactStore
  /** Makes code-signing certificates. */
  readonly issueCodeSigning: CodeSigningIssuer
  /** The iPXE binaries of the data folder; left out where there is none. */
  readonly ipxe?: OperatorParts['ipxe']
  /** What `/metrics` answers. */
  readonly metrics: MetricsAnswers
  /** Signs checkpoints of the event log. */
  readonly checkpoints: CheckpointSigner
  /** Times and bounds of event streams that are not as usual. */
  readonly streams?: Partial<StreamLimits>
  /** The listeners' certificates, for the status. */
  readonly certificates?: OperatorParts['certificates']
  /** The root that is to take the place of the one there is, where there is one. */
  readonly nextRoot?: OperatorParts['nextRoot']
  /** Makes client certificates; left out, none are issued. */
  readonly issueClientCertificate?: ClientCertificateIssuer
  /** The same of nodes, by a CA of their own. */
  readonly issueNodeCertificate?: ClientCertificateIssuer
  /** Whether the server was told to stop; left out: it never is. */
  readonly stopping?: () => boolean
  /** Sign-in for people; left out where no provider is set up. */
  readonly signIn?: SignIn
}

const noIpxe: OperatorParts['ipxe'] = async () => ({ items: [], faults: [] })

const noIssuer: ClientCertificateIssuer = async () => {
  throw new PawlError('certificate-invalid', 'this server has no CA for client certificates', {
    hint: 'run pawl init again, and restart it',
  })
}

const securityHeaders = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
}

/**
 * Builds the listener that operators speak to: an API under /api/v1 where every route names the role it needs, and
 * everything is checked against a schema on its way in and out.
 */
export function buildOperatorListener(
  context: BootContext,
  options: OperatorListenerOptions,
): FastifyInstance {
  const app = open(options)
  const auth = withConditions(operatorAuth(context, options.signIn?.settings))
  const longTimeoutSeconds = options.limits.uploadTimeoutSeconds
  const { artifacts, issueCodeSigning, checkpoints, metrics, log, signIn } = options
  const { issueClientCertificate = noIssuer, issueNodeCertificate = noIssuer } = options
  const issuers = { issueCodeSigning, issueClientCertificate, issueNodeCertificate }
  const eventStreams = openEventStreams(context.storage, { ...streamLimits, ...options.streams })
  const common = { context, auth, artifacts, longTimeoutSeconds, log, signIn }
  const { certificates = () => [], nextRoot = () => undefined, stopping = () => false } = options
  const parts = {
    ...common,
    ...issuers,
    checkpoints,
    metrics,
    ipxe: options.ipxe ?? noIpxe,
    eventStreams,
    certificates,
    nextRoot,
    stopping,
  }
  app.addHook('onRoute', (route) => {
    if (route.config?.role === undefined)
      throw new Error(`route ${route.url} does not say which role it needs`)
  })
  addOpenApi(app as unknown as FastifyInstance)
  app.addHook('onRequest', async (request, reply) => {
    reply.headers({ ...securityHeaders, 'x-request-id': request.id })
  })
  app.addHook('onRequest', (request, reply) => auth.check(request, reply))
  app.addHook('onRequest', (request, _reply, done) => {
    // An upload takes an hour: it must not make room for those who send nothing.
    if (!request.is404 && request.routeOptions.config.role !== 'anyone')
      options.connections?.keep(request.raw)
    done()
  })
  answerConditions(app as unknown as FastifyInstance)
  app.addHook('onResponse', async (request, reply) => logRequest(options.log, request, reply))
  app.addHook('onClose', () => auth.settled())
  app.setErrorHandler((error, request, reply) => answerError(options.log, error, request, reply))
  app.setNotFoundHandler(async (request) => {
    throw new PawlError('not-found', `there is nothing at ${request.method} ${quote(pathOf(request))}`)
  })
  // In a plugin, as all routes are: the document is read from those that come after it.
  app.register((pages, _options, done) => {
    healthRoutes(pages as unknown as OperatorApp, parts)
    metricsRoutes(pages as unknown as OperatorApp, parts)
    done()
  })
  app.register((pages, _options, done) => {
    signInRoutes(pages as unknown as OperatorApp, parts)
    done()
  })
  app.register((pages, _options, done) => {
    webRoutes(pages as unknown as OperatorApp, parts)
    done()
  })
  app.register(apiRoutes(parts), { prefix: '/api/v1' })
  return app as unknown as FastifyInstance
}

function open({ tls, log, limits, connections, trustedProxies = [] }: OperatorListenerOptions): OperatorApp {
  const { https, ...bounds } = limitOptions(limits, limits.requestTimeoutSeconds)
  const app = Fastify({
    ...bounds,
    https: { minVersion: 'TLSv1.3', ...tls, ...https },
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    exposeHeadRoutes: false,
    genReqId: () => randomUUID(),
    trustProxy: trustedProxies.length > 0 ? [...trustedProxies] : false,
    bodyLimit: limits.maxBodyBytes,
    // node:http has one limit for every request, an upload's; what is not an upload has the handler's.
    requestTimeout: limits.uploadTimeoutSeconds * 1000,
    handlerTimeout: limits.requestTimeoutSeconds * 1000,
    keepAliveTimeout: limits.idleTimeoutSeconds * 1000,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 300 },
    frameworkErrors: (error, request, reply) => void answerError(log, error, request, reply),
    schemaErrorFormatter: describeFault,
    schemaController: lateSchemas,
  }) as unknown as OperatorApp // the https server's type; nothing below depends on which
  if (connections === undefined) app.server.maxConnections = limits.maxConnections
  else countConnections(app.server as unknown as HttpsServer, connections, trustedProxies) // it is https
  app.removeContentTypeParser('text/plain')
  return app
}

/** What a schema found wrong, naming the field: an unknown one first, else the deepest, which says most. */
function describeFault(errors: FastifySchemaValidationError[], part: string): Error {
  const unknown = errors.find((error) => error.keyword === 'additionalProperties')
  if (unknown !== undefined) {
    const names = unknown.params.additionalProperties as unknown as string[] | undefined
    return new PawlError('invalid', `${part}: unknown field ${quote(names?.[0] ?? '')}`)
  }
  const [deepest] = [...errors].sort((a, b) => b.instancePath.length - a.instancePath.length)
  const path = (deepest?.instancePath ?? '').slice(1).replaceAll('/', '.')
  return new PawlError(
    'invalid',
    `${part}${path === '' ? '' : `: ${quote(path)}`} ${deepest?.message ?? 'is wrong'}`,
  )
}

/** Every error is a problem document; what is ours to mend goes to the log with its cause. */
function answerError(
  log: Logger,
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const known = asPawlError(error)
  const problem = problemOf(known, request.id)
  if (problem.status >= 500 && known.code !== 'overloaded') {
    log.error({ err: error, requestId: request.id, route: request.routeOptions.url ?? 'none' }, 'failed')
  }
  const pause = known.retryAfterSeconds ?? (problem.status === 503 ? 5 : undefined)
  if (pause !== undefined) reply.header('retry-after', String(pause))
  return reply
    .code(problem.status)
    .headers({ ...securityHeaders, 'x-request-id': request.id })
    .type('application/problem+json')
    .serializer((document: unknown) => JSON.stringify(document))
    .send(problem)
}

/** One line a request: the route's pattern, not its URL. */
function logRequest(log: Logger, request: FastifyRequest, reply: FastifyReply): void {
  log.info(
    {
      route: request.routeOptions.url ?? 'none',
      method: request.method,
      status: reply.statusCode,
      milliseconds: Math.round(reply.elapsedTime),
      source: sourceOf(request),
      requestId: request.id,
    },
    'answered',
  )
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?')[0] ?? ''
}
