import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { imageUses, overviewOf } from '../../fleet/node-overview.ts'
import { imageUsesAnswer, overviewAnswer, overviewQuery } from '../schemas/overview.ts'
import { sharedLook } from '../shared-look.ts'
import { bare, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const compress = promisify(gzip)
const viewer = { config: { role: 'viewer' } } as const
/** Below this, compressing costs more than it saves. */
const minCompressedBytes = 16 * 1024

/** The whole fleet at once, for whoever shows it. */
export function overviewRoutes(app: OperatorApp, { context }: OperatorParts): void {
  const { db } = context.storage
  // Every dashboard asks when much has changed: for 20,000 nodes the event loop stands still for a fifth of a second.
  const wholeFleet = sharedLook(async () => packed(JSON.stringify(await overviewOf(db))))
  app.get(
    '/overview',
    {
      ...viewer,
      schema: {
        ...op('nodes', 'getOverview', 'Shows all nodes, a line each, 20,000 at most.'),
        querystring: overviewQuery,
        response: { 200: overviewAnswer },
      },
    },
    async ({ query: { name }, headers }, reply) => {
      if (name !== undefined) return overviewOf(db, [name].flat())
      const { text, zipped } = await wholeFleet()
      reply.type('application/json; charset=utf-8')
      if (text.length < minCompressedBytes || !takesGzip(headers)) return sendAsIs(reply, text)
      reply.headers({ 'content-encoding': 'gzip', vary: 'accept-encoding' })
      return sendAsIs(reply, await zipped())
    },
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
interface Packed {
  readonly text: string
  /** Made when it is first asked for. */
  readonly zipped: () => Promise<Buffer>
}

function packed(text: string): Packed {
  let zipped: Promise<Buffer> | undefined
  return {
    text,
    zipped() {
      zipped ??= compress(text, { level: 4 })
      return zipped
    },
  }
}

function takesGzip(headers: FastifyRequest['headers']): boolean {
  return /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\b)/.test(String(headers['accept-encoding'] ?? ''))
}

/** What is written as JSON already; the type is that of the answer before. */
function sendAsIs(reply: Pick<FastifyReply, 'send'>, body: string | Buffer): never {
  return reply.send(body) as never
}
