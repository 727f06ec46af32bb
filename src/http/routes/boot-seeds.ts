import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { SeedRequest } from '../../boot/serve-seed.ts'
import type { BootStory } from '../../boot/story.ts'
import { arrivalOf } from '../arrival.ts'
import { sourceOf } from '../source.ts'

type Seed = { Params: { host: string; token: string; file?: string } }

/**
 * What cloud-init and Ignition fetch by themselves. They send no headers: the token is in the path, is never logged, and opens nothing
 * else. There is no HEAD: neither asks for it, and it opens nothing.
 */
export function seedRoutes(app: FastifyInstance, story: BootStory): void {
  app.get<Seed>('/v1/boot/:host/:token/nocloud/:file', (request, reply) =>
    answer(request, reply, 'nocloud', 'text/plain; charset=utf-8'),
  )
  app.get<Seed>('/v1/boot/:host/:token/ignition', (request, reply) =>
    answer(request, reply, 'ignition', 'application/vnd.coreos.ignition+json'),
  )

  async function answer(
    request: FastifyRequest<Seed>,
    reply: FastifyReply,
    of: SeedRequest['of'],
    type: string,
  ): Promise<FastifyReply> {
    const { host, token, file = 'config' } = request.params
    const [source, arrival] = [sourceOf(request), arrivalOf(request)]
    return reply.type(type).send(await story.seed({ host, token, file, of, source, arrival, request: of }))
  }
}
