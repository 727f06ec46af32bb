import type { Server } from 'node:https'
import Fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify'
import type { Logger } from 'pino'
import type { Bandwidth } from '../boot/bandwidth.ts'
import type { BootStory } from '../boot/story.ts'
import { type ErrorCode, isPawlError, PawlError } from '../errors.ts'
import type { ArtifactCache } from '../images/cache.ts'
import type { ServedBinaries } from '../ipxe/served.ts'
import { openAccel } from './accel.ts'
import { admitRequests } from './admit.ts'
import { askingForCertificates, type CertificatesAsked } from './client-certificate.ts'
import { answerAndCutOff } from './cut-off.ts'
import { parseQuery } from './form.ts'
import { openFront } from './front/front.ts'
import { frontLimits } from './front/limits.ts'
import { handshakeRecorder, keyTypesOf } from './front/record.ts'
import { type Gate, openGate } from './gate.ts'
import { lateSchemas } from './late-schemas.ts'
import { connectionsBeyond, type HttpLimits, limitOptions } from './limits.ts'
import { statusOf } from './problem.ts'
import { bootRoutes } from './routes/boot.ts'
import { downloadRoutes } from './routes/boot-downloads.ts'
import { extensionRoutes } from './routes/boot-extensions.ts'
import { identityRoutes } from './routes/boot-identity.ts'
import { ipxeRoutes } from './routes/boot-ipxe.ts'
import { seedRoutes } from './routes/boot-seeds.ts'
import { sourceOf } from './source.ts'

/** Limits of the boot listener. Seconds and bytes. */
export interface BootListenerLimits {
  readonly maxBodyBytes: number
  readonly requestTimeoutSeconds: number
  readonly idleTimeoutSeconds: number
  readonly maxConnections: number
  readonly http?: Partial<HttpLimits>
}

/** What the listener is made of. */
export interface BootListenerOptions {
  readonly tls: Readonly<Record<string, unknown>>
  readonly log: Logger
  readonly limits: BootListenerLimits
  readonly trustedProxies: readonly string[]
  readonly artifacts: ArtifactCache
  /** How fast downloads may be, of all boot listeners of this process together. Left out: as fast as they go. */
  readonly bandwidth?: Bandwidth
  /** Where an nginx before us finds artifacts. Left out: we send them. */
  readonly accelRedirectPath?: string | undefined
  /** Prefixes of proxies that speak the PROXY protocol. */
  readonly proxyProtocolFrom?: readonly string[]
  /** Which clients are asked for a certificate. */
  readonly clientCertificates?: CertificatesAsked
  /** iPXE for firmware that boots by HTTPS. Left out: there is none. */
  readonly ipxe?: ServedBinaries
  /** How much this process takes at a time, all its boot listeners together. Left out: this one has its own. */
  readonly gate?: Gate
}

/** Builds the listener that nodes speak to. HEAD is written by hand where it is allowed: it must open nothing. */
export function buildBootListener(story: BootStory, options: BootListenerOptions): FastifyInstance {
  const { limits, gate = openGate({ limits: { maxConnections: limits.maxConnections } }) } = options
  const { https, ...bounds } = limitOptions(limits.http ?? {}, limits.requestTimeoutSeconds)
  const app = Fastify({
    ...bounds,
    https: { ...options.tls, ...https },
    loggerInstance: options.log,
    logController: new LogController({ disableRequestLogging: true }),
    // A child for each request costs 25 µs, and tells nothing that its lines do not have.
    childLoggerFactory: (logger) => logger,
    exposeHeadRoutes: false,
    trustProxy: options.trustedProxies.length > 0 ? [...options.trustedProxies] : false,
    bodyLimit: limits.maxBodyBytes,
    requestTimeout: limits.requestTimeoutSeconds * 1000,
    // iPXE keeps connections for 10 s: closing before it does costs it a failed request.
    keepAliveTimeout: limits.idleTimeoutSeconds * 1000,
    forceCloseConnections: 'idle',
    // A machine whose connection was busy when we were told to stop is answered what it asks next, and told to close it.
    return503OnClosing: false,
    clientErrorHandler: answerAndCutOff,
    // It has no schemas, and no use for the compilers that are loaded with Fastify's own.
    schemaController: lateSchemas,
    routerOptions: { maxParamLength: 300, querystringParser: parseQuery },
    // What no route is looked up for. Fastify's own answer repeats the path, which may hold a token.
    frameworkErrors: ({ statusCode = 400 }, _request, reply: FastifyReply) =>
      void reply
        .code(statusCode)
        .type('text/plain')
        .header('cache-control', 'no-store')
        .send('the request is malformed\n'),
  }) as unknown as FastifyInstance // the https server's type; nothing below depends on which
  const server = app.server as unknown as Server
  server.maxConnections = gate.limits.maxConnections + connectionsBeyond
  const front = openFront(server, {
    proxies: options.proxyProtocolFrom ?? [],
    // The other half is for those who are through.
    limits: {
      ...frontLimits,
      maxHalfOpen: Math.ceil(gate.limits.maxConnections / 2),
      maxOfAddress: gate.limits.maxHandshakesPerAddress,
    },
    connections: gate.connections,
    onFault: handshakeRecorder(story, keyTypesOf(options.tls)),
    beforeTls: askingForCertificates(server, options.clientCertificates ?? 'tls1.3'),
  })
  gate.connections.watch(server)
  gate.fronts.add(front)
  app.addHook('preClose', async () => front.close())
  admitRequests(app, gate)
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store')
    done()
  })
  app.addHook('onResponse', (request, reply, done) => {
    logRequest(options.log, request, reply)
    done()
  })
  const malformed = aFewAtATime(story, options.log)
  const answering = { malformed, log: options.log, ofOneClient: options.trustedProxies.length === 0 }
  app.setErrorHandler((error, request, reply) => answerError(answering, error as Error, request, reply))
  app.setNotFoundHandler((_request, reply) => reply.code(404).type('text/plain').send('not found\n'))
  bootRoutes(app, story)
  extensionRoutes(app, story)
  seedRoutes(app, story)
  identityRoutes(app, story)
  downloadRoutes(app, story, {
    artifacts: options.artifacts,
    ...(options.bandwidth === undefined ? {} : { bandwidth: options.bandwidth }),
    accel: openAccel(options.accelRedirectPath, options.trustedProxies),
  })
  if (options.ipxe !== undefined) ipxeRoutes(app, story, options.ipxe)
  return app
}

/** One line a request: the route's pattern, never its URL, which may hold a token. */
function logRequest(log: Logger, request: FastifyRequest, reply: FastifyReply): void {
  const { host } = (request.params ?? {}) as { host?: string }
  // What a boot was served is told by the lines of its stages.
  const told = reply.statusCode < 400 && host !== undefined
  log[told ? 'debug' : 'info'](
    {
      route: request.routeOptions.url ?? 'none',
      method: request.method,
      ...(host === undefined ? {} : { host: host.slice(0, 253) }),
      status: reply.statusCode,
      milliseconds: Math.round(reply.elapsedTime),
      source: sourceOf(request),
    },
    'answered',
  )
}

const maxRecording = 8

/** What is refused before the gate is put on record a few at a time: of a flood the first few say all, and no boot waits for it. */
function aFewAtATime({ malformed }: BootStory, log: Logger): BootStory['malformed'] {
  let recording = 0
  return async (asking, reason) => {
    if (recording >= maxRecording) return
    recording += 1
    await malformed(asking, reason)
      .catch((error: unknown) => log.warn({ err: error }, 'a malformed request is not on record'))
      .finally(() => {
        recording -= 1
      })
  }
}

/** Errors that are no fault of the server: who comes is told when to come again, and events say why. */
const toldToWait: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'too-many-boots',
  'overloaded',
  'join-unavailable',
])

/** How long iPXE keeps a connection that it does not use. */
const clientsKeepSeconds = 10

interface Answering {
  readonly malformed: BootStory['malformed']
  readonly log: Logger
  /** Whether a connection is of one client; that of a proxy may be of many. */
  readonly ofOneClient: boolean
}

/**
 * Every refusal has one answer. What is malformed is said, and put on the record where a node is known. Who is told to come again
 * when its connection is not there any more closes it now: thousands may wait so, each for 47 KB.
 */
async function answerError(
  { malformed, log, ofOneClient }: Answering,
  error: Error,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  reply.type('text/plain')
  if (isPawlError(error, 'refused')) return reply.code(403).send('refused\n')
  const known = isPawlError(error) ? error : await fromFastify(malformed, error as FastifyError, request)
  if (known === undefined) {
    log.error({ err: error, route: request.routeOptions.url, request: request.id }, 'failed')
    return reply.code(500).send(`internal error, request ${request.id}\n`)
  }
  const status = statusOf(known.code)
  if (status >= 500) {
    if (!toldToWait.has(known.code)) log.error({ err: known, route: request.routeOptions.url }, 'failed')
    const seconds = known.retryAfterSeconds ?? jittered(10)
    reply.header('retry-after', String(seconds))
    if (ofOneClient && seconds >= clientsKeepSeconds) reply.header('connection', 'close')
  }
  return reply.code(status).send(`${known.message}\n`)
}

/** What Fastify itself found wrong with a request, before any handler ran. */
async function fromFastify(
  malformed: BootStory['malformed'],
  error: FastifyError,
  request: FastifyRequest,
): Promise<PawlError | undefined> {
  const status = error.statusCode ?? 500
  if (status < 400 || status > 499) return undefined
  const { host } = (request.params ?? {}) as { host?: string }
  if (host !== undefined) {
    const asking = { host, source: sourceOf(request), request: request.routeOptions.url ?? '' }
    await malformed(asking, error.message)
  }
  return status === 413
    ? new PawlError('too-large', 'the body is larger than this server takes')
    : new PawlError('invalid', 'the request is malformed')
}

/** Spread by half, so that those who were sent away together do not come back together. */
function jittered(seconds: number): number {
  return Math.ceil(seconds * (0.75 + Math.random() / 2))
}
