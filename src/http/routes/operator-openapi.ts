import { Readable } from 'node:stream'
import { openApiOf } from '../openapi.ts'
import { anyObject } from '../schemas/answers.ts'
import { bare, type OperatorApp, op } from './operator-app.ts'

/**
 * The document that describes this API. Whoever reaches the listener may read it: it holds no secret and tells nothing of
 * an installation (it is the file docs/openapi.json of the release), and tools that make clients have no token to send.
 */
export function openApiRoutes(app: OperatorApp): void {
  let bytes: Buffer | undefined
  app.get(
    '/openapi.json',
    {
      config: { role: 'anyone' },
      schema: {
        ...op('health', 'getOpenApi', 'Gives the OpenAPI document of this API.'),
        ...bare,
        response: { 200: anyObject },
      },
    },
    async (_request, reply) => {
      bytes ??= Buffer.from(JSON.stringify(openApiOf(app as never)))
      const pieces = Readable.from(piecesOf(bytes), { objectMode: false })
      reply.type('application/json').header('content-length', String(bytes.length))
      return reply.send(pieces as never) // written already: it is sent as it is
    },
  )
}

const pieceBytes = 16_384

/** One after the other: who takes none of them costs no memory for the others. */
function* piecesOf(bytes: Buffer): Iterable<Buffer> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes)
}
