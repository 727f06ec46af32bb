import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { imageUses, overviewOf } from '../../fleet/node-overview.ts'
import { imageUsesAnswer, overviewAnswer, overviewQuery } from '../schemas/overview.ts'
import { bare, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const compress = promisify(gzip)
const viewer = { config: { role: 'viewer' } } as const
/** Below this, compressing costs more than it saves. */
const minCompressedBytes = 16 * 1024

/** The whole fleet at once, for whoever shows it. */
export function overviewRoutes(app: OperatorApp, { context }: OperatorParts): void {
  const { db } = context.storage
  app.get(
    '/overview',
    {
      ...viewer,
      schema: {
        ...op('nodes', 'getOverview', 'Shows all nodes, a line each, 20,000 at most.'),
        querystring: overviewQuery,
        response: { 200: overviewAnswer },
      },
      onSend: compressed,
    },
    ({ query: { name } }) => overviewOf(db, name === undefined ? undefined : [name].flat()),
  )
  app.get(
    '/image-uses',
    {
      ...viewer,
      schema: {
        ...op('images', 'listImageUses', 'Counts the nodes whose last boot was of each image.'),
        ...bare,
        response: { 200: imageUsesAnswer },
      },
    },
    () => imageUses(db),
  )
}

/** Ten thousand nodes are 3 MB. There is no secret among them that a length could tell of. */
async function compressed(request: FastifyRequest, reply: FastifyReply, payload: unknown): Promise<unknown> {
  const accepts = /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\b)/.test(String(request.headers['accept-encoding'] ?? ''))
  if (!accepts || typeof payload !== 'string' || payload.length < minCompressedBytes) return payload
  reply.headers({ 'content-encoding': 'gzip', vary: 'accept-encoding' }).removeHeader('content-length')
  return compress(payload, { level: 4 })
}
