import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { BootStory } from '../../boot/story.ts'
import { extensionLimits } from '../../domain/extension.ts'
import { PawlError } from '../../errors.ts'
import { arrivalOf } from '../arrival.ts'
import { clientCertificateOf } from '../client-certificate.ts'
import { sourceOf } from '../source.ts'
import { bearer } from './boot.ts'

type Asked = { Params: { host: string; operation: string; token?: string } }

/**
 * Extensions: ePoxy's route with the token in its path, and the same with the token in the header for agents of ours; and the key set
 * by which services know that it is us. What a node sends as a body is taken, as ePoxy takes it, and goes no further.
 */
export function extensionRoutes(app: FastifyInstance, story: BootStory): void {
  app.get('/v1/extensions/jwks.json', async (_request, reply) =>
    reply
      .type('application/jwk-set+json')
      .header('cache-control', 'public, max-age=300')
      .send(await story.extensionKeySet()),
  )
  app.post<Asked>('/v1/boot/:host/:token/extension/:operation', (request, reply) =>
    answer(request, reply, request.params.token),
  )
  app.post<Asked>('/v1/boot/:host/extension/:operation', (request, reply) =>
    answer(request, reply, bearer(request)),
  )

  async function answer(
    request: FastifyRequest<Asked>,
    reply: FastifyReply,
    token: string | undefined,
  ): Promise<FastifyReply> {
    const { host, operation } = request.params
    const who = {
      ...{ host, source: sourceOf(request), request: 'extension' },
      ...{ certificate: clientCertificateOf(request), arrival: arrivalOf(request) },
    }
    const rawQuery = queryOf(request)
    if (rawQuery === undefined) {
      await story.malformed(who, 'the query is too long, or holds what a URL cannot')
      throw new PawlError('invalid', `a query has at most ${extensionLimits.queryCharacters} characters`)
    }
    const { status, type, body, retryAfterSeconds } = await story.extension({
      ...who,
      token,
      operation,
      rawQuery,
    })
    if (retryAfterSeconds !== undefined) reply.header('retry-after', String(retryAfterSeconds))
    return reply.code(status).header('x-content-type-options', 'nosniff').type(type).send(Buffer.from(body))
  }
}

/** What stands behind the `?`, as it stands there; undefined where it is more than a service need take. */
function queryOf({ raw }: FastifyRequest): string | undefined {
  const url = raw.url ?? ''
  const at = url.indexOf('?')
  const query = at < 0 ? '' : url.slice(at + 1)
  return query.length <= extensionLimits.queryCharacters && /^[!-~]*$/.test(query) ? query : undefined
}
