import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { BootStory } from '../../boot/story.ts'
import { PawlError } from '../../errors.ts'
import { arrivalOf } from '../arrival.ts'
import { parseBody } from '../form.ts'
import { sourceOf } from '../source.ts'
import { bearer } from './boot.ts'

type Host = { Params: { host: string } }

const json = 'application/json'

/** Well within the time by which a new key is published before it signs. */
const keySetSeconds = 300
const configurationSeconds = 3600

/** The identity of nodes: what nodes ask for, and what everyone may read to check it. */
export function identityRoutes(app: FastifyInstance, story: BootStory): void {
  app.post<Host>('/v1/boot/:host/identity/key', async (request, reply) => {
    const answer = await story.registerKey({ ...asking(request, 'identity/key'), token: bearer(request) })
    return reply.type(json).send(answer)
  })
  app.post<Host>('/v1/boot/:host/identity', async (request, reply) => {
    const who = asking(request, 'identity')
    const answer = await story.issueIdentity({ ...who, audience: await audienceOf(request) })
    return reply.type(json).send(answer)
  })
  app.get('/.well-known/openid-configuration', async (_request, reply) =>
    published(reply, configurationSeconds).send(await story.identityConfiguration()),
  )
  app.get('/.well-known/jwks.json', async (_request, reply) =>
    published(reply, keySetSeconds).send(await story.identityKeySet()),
  )

  async function audienceOf(request: FastifyRequest<Host>): Promise<string | undefined> {
    try {
      const body = await parseBody(request.headers['content-type'], request.body as Buffer | undefined)
      const { audience } = { ...(request.query as Record<string, unknown>), ...body }
      if (audience === undefined || typeof audience === 'string') return audience
      throw new PawlError('invalid', 'audience must be given once, as text')
    } catch (error) {
      const reason = error instanceof Error ? error.message : 'the body cannot be read'
      await story.malformed(asking(request, 'identity'), reason)
      throw error
    }
  }
}

function published(reply: FastifyReply, seconds: number): FastifyReply {
  return reply.type(json).header('cache-control', `public, max-age=${seconds}`)
}

/** Several headers are one with commas in it, which is no proof. */
function asking(request: FastifyRequest<Host>, name: string) {
  const [host, source, arrival] = [request.params.host, sourceOf(request), arrivalOf(request)]
  const { dpop } = request.headers
  const proof = typeof dpop === 'string' ? dpop : dpop?.join(',')
  return { host, source, request: name, arrival, proof }
}
