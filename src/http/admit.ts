import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { countingUnit } from '../domain/address.ts'
import type { WorkKind } from '../domain/load.ts'
import { parseToken } from '../domain/token.ts'
import { isPawlError, PawlError } from '../errors.ts'
import type { Gate } from './gate.ts'
import { workOfRoutes } from './gate.ts'
import { bodyLimits, type LargeBody } from './large-bodies.ts'
import { bearer } from './routes/boot.ts'
import { sourceOf } from './source.ts'

/**
 * Requests that were let in. Their work is over when the answer is ready, before it is sent; and not before, where the client has
 * gone: who hangs up at once would have more worked on than there are places.
 */
const admitted = new WeakMap<
  FastifyRequest,
  { readonly gate: Gate; readonly over: () => void; readonly waitedMilliseconds: number }
>()

/**
 * Puts the gate before the routes of a boot listener: behind the reading of a request, so that a slow sender holds no place, and
 * before anything that asks the database. Who is sent away has spent no token, is counted nowhere else, and is no refusal.
 */
export function admitRequests(app: FastifyInstance, gate: Gate): void {
  const largeBodies = new WeakMap<FastifyRequest, LargeBody>()
  app.addHook('onRoute', (route) => {
    const { url, handler } = route
    if (!(url in workOfRoutes)) throw new Error(`route ${url} is not in the table of admission`)
    if (workOfRoutes[url] === undefined) return
    route.handler = async function (request, reply) {
      try {
        const answer = await handler.call(this, request, reply)
        const node = hostOf(request)
        if (node !== undefined) gate.told.served(node)
        return answer
      } catch (error) {
        if (isPawlError(error, 'join-unavailable')) noteTold(gate, request, sourceOf(request), error)
        throw error
      } finally {
        workIsDone(request)
      }
    }
  })
  app.addHook('onRequest', (request, reply, done) => {
    // What a connection that was cut off had sent ahead.
    if (request.raw.socket.destroyed) {
      reply.hijack()
      return
    }
    const bytes = bodyBytes(request)
    if (bytes <= bodyLimits.small) return done()
    const source = sourceOf(request)
    const sendAway = (): void => {
      const error = tooManyBodies()
      noteTold(gate, request, source, error)
      // Nobody waits for the rest of it.
      reply.header('connection', 'close').send(error)
    }
    const body = gate.bodies.take(gate.sites.siteOf(source), bytes, sendAway)
    if (body === undefined) return sendAway()
    largeBodies.set(request, body)
    reply.raw.once('close', body.over)
    done()
  })
  app.addHook('preHandler', (request, reply, done) => {
    const kind = kindOf(request)
    if (kind === undefined) done()
    else letIn(kind, request, reply).then(beginOrLeave, done)

    function beginOrLeave(): void {
      // Its body gave way while it waited: Fastify calls no handler that would say when its work is over.
      if (reply.sent) workIsDone(request)
      done()
    }
  })
  async function letIn(kind: WorkKind, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const source = sourceOf(request)
    const site = gate.sites.siteOf(source)
    const came = performance.now()
    const node = hostOf(request)
    try {
      const over = await gate.admission.enter({
        kind,
        site,
        again: node === undefined ? undefined : gate.told.waitingWith(node, site),
        onGone: (leave) => {
          reply.raw.once('close', leave)
          return () => reply.raw.off('close', leave)
        },
      })
      admitted.set(request, { gate, over, waitedMilliseconds: performance.now() - came })
      largeBodies.get(request)?.begun()
    } catch (error) {
      if (isPawlError(error, 'overloaded')) noteTold(gate, request, source, error)
      throw error
    }
    if (node !== undefined) gate.told.came(node)
  }
  app.addHook('onSend', (request, reply, _payload, done) => {
    workIsDone(request)
    const node = hostOf(request)
    const kind = workOfRoutes[request.routeOptions.url ?? '']
    // Opened by a token or by evidence: the node's own site may be learned from it.
    if (node !== undefined && reply.statusCode === 200 && (kind === 'running' || kind === 'new'))
      gate.sites.noteServed(sourceOf(request), node)
    done()
  })
}

/**
 * Says that the bytes of a download are sent now, past Fastify: opening it is done, and it is counted until its answer is over.
 * Throws `overloaded` where there is no room for one more.
 */
export function beginBytes(request: FastifyRequest, reply: FastifyReply, session: string | undefined): void {
  const gate = admitted.get(request)?.gate
  if (gate === undefined) return // `inject`, without a gate
  workIsDone(request)
  const source = sourceOf(request)
  try {
    const { socket } = request.raw
    const over = gate.admission.beginDownload({
      ...{ address: countingUnit(source), site: gate.sites.siteOf(source), session },
      sent: () => socket.bytesWritten,
      cut: () => socket.destroy(),
    })
    // Who hung up while it was opened is not told so again: its place would be taken for ever.
    if (reply.raw.destroyed) over()
    else reply.raw.once('close', over)
  } catch (error) {
    if (isPawlError(error, 'overloaded')) noteTold(gate, request, source, error)
    throw error
  }
}

/** What who is told no time may come in. */
const usualWaitSeconds = 10

/** How long a request waited for its turn. */
export function waitedSeconds(request: FastifyRequest): number {
  return (admitted.get(request)?.waitedMilliseconds ?? 0) / 1000
}

/** Reports go first: who presents nothing that could be a token has nothing to report, and waits with those who begin. */
function kindOf(request: FastifyRequest): WorkKind | undefined {
  const kind = workOfRoutes[request.routeOptions.url ?? '']
  if (kind !== 'report') return kind
  const { token = bearer(request) } = request.params as { token?: string }
  return token !== undefined && parseToken(token) !== undefined ? kind : 'new'
}

function tooManyBodies(): PawlError {
  return new PawlError('overloaded', 'too many large bodies come at once')
}

function workIsDone(request: FastifyRequest): void {
  admitted.get(request)?.over()
}

/** A join that waits is told why: whoever looks at its node reads it there. */
function noteTold(gate: Gate, request: FastifyRequest, source: string, error: PawlError): void {
  const { code, message, retryAfterSeconds: seconds = usualWaitSeconds } = error
  const name = (request.routeOptions.url ?? '').replace(/^\/v1\/(?:boot\/)?(?::host\/)?(?::token\/)?/, '')
  const why = code === 'join-unavailable' ? message.replace(/^the join waits: /, '') : undefined
  const site = gate.sites.siteOf(source)
  gate.told.note({ node: hostOf(request), site, request: name, source, seconds, why })
}

function hostOf(request: FastifyRequest): string | undefined {
  return (request.params as { host?: string } | undefined)?.host
}

/** How much a request sends, or, where it does not say, may send. Who says more than it may is refused, and sends nothing. */
function bodyBytes({ raw, routeOptions }: FastifyRequest): number {
  const { 'content-length': length, 'transfer-encoding': encoding } = raw.headers
  const most = routeOptions.bodyLimit ?? bodyLimits.small
  if (encoding !== undefined) return most
  return length === undefined ? 0 : Math.min(Number(length), most)
}
