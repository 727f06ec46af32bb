import { Readable } from 'node:stream'
import { parseDigest } from '../../domain/digest.ts'
import { maxArtifactBytes } from '../../domain/image.ts'
import { PawlError } from '../../errors.ts'
import { nothing } from '../schemas/answers.ts'
import { artifactAnswer, artifactPath } from '../schemas/fleet.ts'
import { long, type OperatorApp, type OperatorParts } from './operator-app.ts'

const publisher = { config: { role: 'publisher' } } as const

/**
 * Artifacts, by digest: their bodies are streamed to the disk as they come and may take hours, so this is registered
 * apart, with no reading of bodies ahead.
 */
export function artifactRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { artifacts } = parts
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  const path = { params: artifactPath, querystring: nothing }
  app.head('/artifacts/sha256/:hex', { ...publisher, schema: path }, async (request, reply) => {
    const size = await artifacts.has(parseDigest(request.params.hex))
    if (size === undefined) throw new PawlError('not-found', `no artifact ${request.params.hex} is stored`)
    return reply.header('content-length', size).type('application/octet-stream').send()
  })
  app.put(
    '/artifacts/sha256/:hex',
    {
      ...publisher,
      ...long(parts),
      schema: { ...path, response: { 200: artifactAnswer, 201: artifactAnswer } },
    },
    async (request, reply) => {
      const digest = parseDigest(request.params.hex)
      const before = await artifacts.has(digest)
      const announced = request.headers['content-length']
      const body = request.body instanceof Readable ? request.body : Readable.from([])
      const size = await artifacts.put(digest, body, {
        maxBytes: maxArtifactBytes,
        ...(announced === undefined ? {} : { size: Number(announced) }),
      })
      return reply.code(before === undefined ? 201 : 200).send({ digest, size })
    },
  )
}
