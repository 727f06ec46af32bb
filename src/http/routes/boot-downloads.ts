import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { BootContext } from '../../boot/context.ts'
import { findOpenArtifact, openDownload, recordBytes, renewDownload } from '../../boot/download.ts'
import { prepareDownload } from '../../boot/download-body.ts'
import type { Artifact } from '../../domain/image.ts'
import type { ArtifactCache } from '../../images/cache.ts'
import type { Fields } from '../form.ts'
import { bearer } from './boot.ts'

const renewEveryMilliseconds = 60_000
/** An artifact never changes: its name is its digest. */
const cacheable = 'public, max-age=31536000, immutable'

/** The routes of images. HEAD needs what GET needs, and opens nothing. */
export function downloadRoutes(app: FastifyInstance, context: BootContext, artifacts: ArtifactCache): void {
  app.route<{ Params: { host: string; role: string } }>({
    method: ['GET', 'HEAD'],
    url: '/v1/boot/:host/artifacts/:role',
    handler: async (request, reply) => {
      const { host, role } = request.params
      const { c } = request.query as Fields
      const capability = bearer(request) ?? (typeof c === 'string' ? c : undefined)
      const download = await openDownload(context, {
        host,
        source: request.ip,
        request: 'artifacts',
        role,
        capability,
      })
      const end = context.transfers.begin(download.session, () => reply.raw.destroy())
      const renewing = setInterval(() => {
        renewDownload(context, download).catch((error: unknown) =>
          request.log.warn({ err: error }, 'idle timer not renewed'),
        )
      }, renewEveryMilliseconds)
      try {
        const bytes = await send(request, reply, download.artifact, { 'cache-control': 'no-store' })
        if (bytes > 0) await recordBytes(context, download, bytes)
      } finally {
        clearInterval(renewing)
        end()
      }
      return reply
    },
  })
  app.route<{ Params: { digest: string } }>({
    method: ['GET', 'HEAD'],
    url: '/v1/artifacts/sha256/:digest',
    handler: async (request, reply) => {
      const artifact = await findOpenArtifact(context.storage.db, request.params.digest)
      if (artifact === undefined) return reply.code(404).type('text/plain').send('not found\n')
      await send(request, reply, artifact, { 'cache-control': cacheable })
      return reply
    },
  })

  /** Sends an artifact past Fastify, which has nothing to add to its bytes; resolves to how many were sent. */
  async function send(
    request: FastifyRequest,
    reply: FastifyReply,
    artifact: Artifact,
    headers: Readonly<Record<string, string>>,
  ): Promise<number> {
    const answer = await prepareDownload(artifacts, request, artifact)
    reply.hijack()
    const { bytesSent, error } = await answer.send(reply.raw, { headers })
    if (error !== undefined)
      request.log.error({ err: error, digest: artifact.digest }, 'artifact could not be read')
    return bytesSent
  }
}
