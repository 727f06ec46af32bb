import type { IncomingHttpHeaders } from 'node:http'
import { Readable } from 'node:stream'
import type { FastifyRequest } from 'fastify'
import { type Digest, parseDigest } from '../../domain/digest.ts'
import Type from '../../domain/schema.ts'
import { PawlError } from '../../errors.ts'
import { isRemoved, noteStored, refuseWhileRemoved } from '../../fleet/prune.ts'
import type { PutOptions } from '../../images/artifacts.ts'
import { nothing } from '../schemas/answers.ts'
import { artifactAnswer, artifactPath, partialArtifactAnswer } from '../schemas/fleet.ts'
import { long, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const publisher = { config: { role: 'publisher' } } as const

/**
 * Artifacts, by digest: their bodies are streamed to the disk as they come and may take hours, so this is registered
 * apart, with no reading of bodies ahead.
 *
 * Uploads go on where they broke off, with the fields of draft-ietf-httpbis-resumable-upload: `Upload-Offset`,
 * `Upload-Length`, `Upload-Complete`. What differs: the artifact's own URL, which its digest makes, is the upload's too, so
 * nothing is created first and no 104 tells a place; an upload that is not whole is a 404 there; PUT appends.
 */
export function artifactRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { artifacts, auth, context } = parts
  const received = (request: FastifyRequest, digest: Digest): Promise<number> =>
    artifacts.received(digest, auth.operatorOf(request).name)
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  const path = { params: artifactPath, querystring: nothing }
  app.head(
    '/artifacts/sha256/:hex',
    {
      ...publisher,
      schema: {
        ...op(
          'artifacts',
          'checkArtifact',
          'Says whether an artifact is stored, or how much of it has come.',
        ),
        ...path,
      },
    },
    async (request, reply) => {
      const digest = parseDigest(request.params.hex)
      const size = (await isRemoved(context, digest)) ? undefined : await artifacts.has(digest)
      if (size === undefined) {
        reply.headers(progressFields(await received(request, digest), false))
        throw new PawlError('not-found', `no artifact ${digest} is stored`)
      }
      reply.headers({ ...progressFields(size, true), 'content-length': size })
      return reply.type('application/octet-stream').send()
    },
  )
  app.put(
    '/artifacts/sha256/:hex',
    {
      config: { role: 'publisher', problems: ['digest-mismatch', 'disk-full', 'store-unavailable'] },
      ...long(parts),
      schema: {
        ...op('artifacts', 'putArtifact', 'Uploads an artifact, or goes on with an upload that broke off.'),
        ...path,
        description:
          'Answers and errors say in Upload-Offset how much has come, and in Upload-Complete whether that is all.',
        headers: uploadHeaders,
        consumes: ['application/octet-stream'],
        body: Type.Unknown(),
        response: { 200: artifactAnswer, 201: artifactAnswer, 202: partialArtifactAnswer },
      },
    },
    async (request, reply) => {
      const digest = parseDigest(request.params.hex)
      const upload = readUpload(request.headers)
      await refuseWhileRemoved(context, digest)
      const before = await artifacts.has(digest)
      const body = request.body instanceof Readable ? request.body : Readable.from([])
      const sender = auth.operatorOf(request).name
      try {
        const size = await artifacts.put(digest, body, { sender, ...upload })
        const whole = size === upload.size
        reply.headers(progressFields(size, whole))
        if (whole) await noteStored(context, digest)
        if (!whole) return reply.code(202).send({ digest, received: size })
        return reply.code(before === undefined ? 201 : 200).send({ digest, size })
      } catch (error) {
        reply.headers(progressFields(await received(request, digest), false))
        throw error
      }
    },
  )
}

/** The fields of draft-ietf-httpbis-resumable-upload; what they hold is read by `readUpload`. */
const uploadHeaders = Type.Object({
  'upload-offset': Type.Optional(
    Type.String({ description: 'Where in the artifact this body begins; 0 when left out.' }),
  ),
  'upload-length': Type.Optional(Type.String({ description: 'How large the artifact becomes.' })),
  'upload-complete': Type.Optional(
    Type.String({
      description: '?1 where the upload ends with this body, as when left out; ?0 where more comes.',
    }),
  ),
})

function progressFields(offset: number, complete: boolean): Record<string, string> {
  return { 'upload-offset': String(offset), 'upload-complete': complete ? '?1' : '?0' }
}

/** What the fields of an upload say; a request without them sends the whole artifact. Room is made for a known size only. */
function readUpload(headers: IncomingHttpHeaders): Required<Pick<PutOptions, 'offset' | 'size'>> {
  const offset = readBytes(headers, 'upload-offset') ?? 0
  const length = readBytes(headers, 'content-length')
  const complete = headers['upload-complete'] ?? '?1'
  if (complete !== '?0' && complete !== '?1')
    throw new PawlError('invalid', 'Upload-Complete is ?1 where the upload ends with this request, else ?0')
  const announced = readBytes(headers, 'upload-length')
  if (announced === undefined && complete === '?0')
    throw new PawlError('invalid', 'an upload in parts says how large it becomes: Upload-Length')
  const end = length === undefined ? undefined : offset + length
  if (announced !== undefined && end !== undefined && end > announced)
    throw new PawlError(
      'invalid',
      `the ${length} bytes of this request end behind Upload-Length ${announced}`,
    )
  if (announced !== undefined && end !== undefined && end < announced && headers['upload-complete'] === '?1')
    throw new PawlError('invalid', `this request ends at byte ${end} of ${announced}, and says that is all`)
  const size = announced ?? end
  if (size === undefined)
    throw new PawlError('invalid', 'an upload says how large it is: Content-Length or Upload-Length')
  return { offset, size }
}

/** A count of bytes: an Integer of RFC 9651, which has 15 digits at most. */
function readBytes(headers: IncomingHttpHeaders, name: string): number | undefined {
  const text = headers[name]
  if (text === undefined) return undefined
  if (typeof text !== 'string' || !/^\d{1,15}$/.test(text))
    throw new PawlError('invalid', `${name} is not a whole number of bytes`)
  return Number(text)
}
