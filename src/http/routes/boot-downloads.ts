import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Bandwidth, openBandwidth } from '../../boot/bandwidth.ts'
import type { Download, DownloadRequest } from '../../boot/download.ts'
import { prepareDownload } from '../../boot/download-body.ts'
import { openFinder } from '../../boot/open-finder.ts'
import type { BootStory } from '../../boot/story.ts'
import { runTransfer } from '../../boot/transfer.ts'
import type { Artifact } from '../../domain/image.ts'
import { PawlError } from '../../errors.ts'
import type { ArtifactCache } from '../../images/cache.ts'
import { type AnswerPlan, planAnswer } from '../../images/conditional.ts'
import type { ByteRange } from '../../images/range.ts'
import type { Accel } from '../accel.ts'
import { beginBytes } from '../admit.ts'
import { arrivalOf } from '../arrival.ts'
import { clientCertificateOf } from '../client-certificate.ts'
import type { Fields } from '../form.ts'
import { sourceOf } from '../source.ts'
import { bearer } from './boot.ts'

type HostRole = { Params: { host: string; role: string } }
type ByDigest = { Params: { digest: string } }
const signatureEnding = '.sig'
/** Said by agents that know what to do with a 307 to another host: to leave their capability here. */
const followsRedirects = 'pawl-follows-redirects'
type Visibility = 'session' | 'open'

/** What a listener's downloads share with all others of its process. */
export interface DownloadOptions {
  readonly artifacts: ArtifactCache
  /** Left out: as fast as it goes. */
  readonly bandwidth?: Bandwidth
  /** Left out: nobody sends bytes for us. */
  readonly accel?: Accel
}

/** The routes of images. HEAD is decided from what is recorded about an artifact: it needs what GET needs, and reads no file. */
export function downloadRoutes(app: FastifyInstance, story: BootStory, options: DownloadOptions): void {
  const { artifacts, bandwidth = openBandwidth({}), accel = () => undefined } = options
  const findOpenArtifact = openFinder(story)
  app.get<HostRole>('/v1/boot/:host/artifacts/:role', async (request, reply) => {
    if (isSignature(request)) return sendSignature(request, reply)
    const download = await openFor(story, request)
    const location = await redirected(request, download)
    if (location !== undefined) {
      return reply.code(307).headers({ location, 'cache-control': 'no-store', 'content-length': '0' }).send()
    }
    const internal = accelerated(request, download.artifact)
    if (internal !== undefined) {
      const { start, end } = internal.body
      await story.countTransfer(download, {
        bytes: end - start,
        part: { start, end },
        arrival: arrivalOf(request),
      })
      return sendAccel(reply, internal, 'session')
    }
    beginBytes(request, reply, download.session)
    const part = planAnswer(request, download.artifact).body
    await runTransfer(story, download, {
      arrival: arrivalOf(request),
      ...(part === undefined ? {} : { part }),
      send: (onProgress) =>
        sendBytes(
          request,
          reply,
          { artifact: download.artifact, visibility: 'session', of: download.node },
          onProgress,
        ),
      cut: () => reply.raw.destroy(),
      onError: (error) =>
        request.log.warn({ err: error, session: download.session }, 'download not recorded'),
    })
    return reply
  })
  app.head<HostRole>('/v1/boot/:host/artifacts/:role', async (request, reply) => {
    if (isSignature(request)) return sendSignature(request, reply)
    const { artifact } = await openFor(story, request)
    return sendHead(request, reply, artifact, 'session')
  })
  app.get<ByDigest>('/v1/artifacts/sha256/:digest', async (request, reply) => {
    const artifact = await findOpenArtifact(request.params.digest)
    if (artifact === undefined) return sendNotFound(reply)
    const internal = accelerated(request, artifact)
    if (internal !== undefined) return sendAccel(reply, internal, 'open')
    beginBytes(request, reply, undefined)
    await sendBytes(request, reply, { artifact, visibility: 'open', of: sourceOf(request) })
    return reply
  })
  app.head<ByDigest>('/v1/artifacts/sha256/:digest', async (request, reply) => {
    const artifact = await findOpenArtifact(request.params.digest)
    return artifact === undefined ? sendNotFound(reply) : sendHead(request, reply, artifact, 'open')
  })

  /** Where an agent that can go there gets the bytes it asks for; one of before sends no such header, and gets them from us. */
  async function redirected(
    request: FastifyRequest<HostRole>,
    download: Download,
  ): Promise<string | undefined> {
    const { body } = planAnswer(request, download.artifact)
    if (request.headers[followsRedirects] !== '1' || body === undefined) return undefined
    // Who goes on with a rest had the beginning from there, and that was counted whole.
    const bytes = body.start === 0 ? body.end : 0
    const asked = { bytes, source: sourceOf(request), arrival: arrivalOf(request) }
    return story.redirectDownload(download, asked).catch((error: unknown) => {
      request.log.warn({ err: error, session: download.session }, 'download not redirected: sent from here')
      return undefined
    })
  }

  /** The answer for an nginx before us that sends the bytes itself: whole or a part, as it was asked. */
  function accelerated(request: FastifyRequest, artifact: Artifact): Internal | undefined {
    const location = accel(request, artifact.digest)
    const { status, headers, body } = planAnswer(request, artifact)
    return location === undefined || body === undefined ? undefined : { location, status, headers, body }
  }

  /** Sends the detached signature of an artifact; its few bytes count for nothing. */
  async function sendSignature(
    request: FastifyRequest<HostRole>,
    reply: FastifyReply,
  ): Promise<FastifyReply> {
    const { role } = request.params
    const cms = await story.openSignature({
      ...asked(request),
      role: role.slice(0, -signatureEnding.length),
    })
    return reply
      .header('cache-control', 'no-store')
      .type('application/pkcs7-signature')
      .send(Buffer.from(cms))
  }

  /** Sends an artifact past Fastify, which has nothing to add to its bytes; resolves to how many were sent. */
  async function sendBytes(
    request: FastifyRequest,
    reply: FastifyReply,
    { artifact, visibility, of }: Sending,
    onProgress: () => void = () => undefined,
  ): Promise<number> {
    const lane = bandwidth.begin(of)
    try {
      const answer = await prepareDownload(artifacts, request, artifact).catch((cause: unknown) => {
        throw unreadable(artifact, cause)
      })
      reply.hijack()
      const headers = { 'Cache-Control': cacheControl(answer.status, visibility) }
      const { bytesSent, error } = await answer.send(reply.raw, { headers, onProgress, lane })
      if (error !== undefined) request.log.error({ err: unreadable(artifact, error) }, 'download cut')
      return bytesSent
    } finally {
      lane.close()
    }
  }
}

/** What is sent, who may keep it, and who it is for, as far as speed goes. */
interface Sending {
  readonly artifact: Artifact
  readonly visibility: Visibility
  readonly of: string
}

interface Internal {
  readonly location: string
  readonly status: AnswerPlan['status']
  readonly headers: AnswerPlan['headers']
  readonly body: ByteRange
}

/** Of our headers nginx keeps the type and Cache-Control; what else it passes on is in its configuration (deploy/nginx). */
function sendAccel(
  reply: FastifyReply,
  { location, status, headers }: Internal,
  visibility: Visibility,
): FastifyReply {
  const { 'Content-Length': _length, 'Content-Range': _range, ...kept } = headers
  return reply
    .code(200)
    .headers({ ...kept, 'cache-control': cacheControl(status, visibility), 'x-accel-redirect': location })
    .send()
}

/** Checks the capability: from a header where the client can send one, else from the query. */
function openFor(story: BootStory, request: FastifyRequest<HostRole>): Promise<Download> {
  return story.openDownload(asked(request))
}

function asked(request: FastifyRequest<HostRole>): DownloadRequest {
  const { host, role } = request.params
  const { c } = request.query as Fields
  const capability = bearer(request) ?? (typeof c === 'string' ? c : undefined)
  const certificate = clientCertificateOf(request)
  const arrival = arrivalOf(request)
  return { host, source: sourceOf(request), request: 'artifacts', role, capability, certificate, arrival }
}

function isSignature(request: FastifyRequest<HostRole>): boolean {
  return request.params.role.endsWith(signatureEnding)
}

function sendHead(
  request: FastifyRequest,
  reply: FastifyReply,
  artifact: Artifact,
  visibility: Visibility,
): FastifyReply {
  const { status, headers } = planAnswer(request, artifact)
  return reply
    .code(status)
    .headers({ ...headers, 'cache-control': cacheControl(status, visibility) })
    .send()
}

function sendNotFound(reply: FastifyReply): FastifyReply {
  return reply.code(404).type('text/plain').send('not found\n')
}

/**
 * An artifact named by its digest never changes. A 412 or 416 is of one request: a shared cache that kept it under the URL
 * would give it to everyone for a year.
 */
function cacheControl(status: AnswerPlan['status'], visibility: Visibility): string {
  const ofArtifact = status === 200 || status === 206 || status === 304
  return visibility === 'open' && ofArtifact ? 'public, max-age=31536000, immutable' : 'no-store'
}

/** What a manifest names must be there: that it is not, or not readable, is our fault and not the client's. */
function unreadable({ role, digest }: Artifact, cause: unknown): PawlError {
  return new PawlError('internal', `the ${role} cannot be read now`, {
    internal: `artifact ${digest}`,
    cause,
  })
}
