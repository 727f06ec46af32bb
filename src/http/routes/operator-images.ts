import { parseImageName, parseImageVersion } from '../../domain/image.ts'
import Type from '../../domain/schema.ts'
import { once } from '../../fleet/idempotency.ts'
import { listImages, publishImage, rereadImage, showEvidence, showImage } from '../../fleet/images.ts'
import { removeImage } from '../../fleet/remove-image.ts'
import { signImage } from '../../fleet/signatures.ts'
import { noBody, nothing, pageAsked } from '../schemas/answers.ts'
import {
  imageAnswer,
  imagePath,
  imageQuery,
  imagesAnswer,
  publication,
  publishedAnswer,
  removedImageAnswer,
  rereadAnswer,
  signaturesAnswer,
  signedAnswer,
} from '../schemas/fleet.ts'
import { bare, long, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const

/** Images. A manifest is read by domain/image.ts, which says what is wrong with it better than a schema here could. */
export function imageRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { context, auth, artifacts } = parts
  const { db } = context.storage
  app.get(
    '/images',
    {
      ...viewer,
      schema: {
        ...op('images', 'listImages', 'Lists image versions.'),
        querystring: imageQuery,
        response: { 200: imagesAnswer },
      },
    },
    (request) => listImages(db, { ...pageAsked(request.query), name: request.query.name }),
  )
  app.get(
    '/images/:name/:version',
    {
      ...viewer,
      schema: {
        ...op('images', 'getImage', 'Shows an image version with its manifest.'),
        ...bare,
        params: imagePath,
        response: { 200: imageAnswer },
      },
    },
    (request) => showImage(db, request.params.name, request.params.version),
  )
  app.delete(
    '/images/:name/:version',
    {
      config: { role: 'admin', problems: ['conflict', 'store-unavailable'] },
      ...long(parts),
      schema: {
        ...op('images', 'removeImage', 'Removes an image version that nothing uses, with its bytes.'),
        ...bare,
        params: imagePath,
        response: { 200: removedImageAnswer },
      },
    },
    (request) => {
      const { name, version } = request.params
      const ref = { name: parseImageName(name), version: parseImageVersion(version) }
      return removeImage(context, auth.byOf(request), artifacts, ref)
    },
  )
  app.post(
    '/images',
    {
      config: {
        role: 'publisher',
        idempotent: true,
        problems: ['digest-mismatch', 'signature-invalid', 'store-unavailable'],
      },
      ...long(parts), // every byte is read back
      schema: {
        ...op('images', 'publishImage', 'Publishes an image version whose artifacts are uploaded.'),
        body: publication,
        querystring: nothing,
        response: { 200: publishedAnswer, 201: publishedAnswer, 202: publishedAnswer },
      },
    },
    async (request, reply) => {
      const by = auth.byOf(request)
      const published = await once(context, by, () => publishImage(context, by, artifacts, request.body))
      return reply.code(published.proposal !== null ? 202 : published.created ? 201 : 200).send(published)
    },
  )
  app.get(
    '/images/:name/:version/signatures',
    {
      ...viewer,
      schema: {
        ...op('images', 'getImageSignatures', 'Gives the manifest as it was signed, and its signatures.'),
        ...bare,
        params: imagePath,
        response: { 200: signaturesAnswer },
      },
    },
    (request) => showEvidence(db, request.params.name, request.params.version),
  )
  app.post(
    '/images/:name/:version/signatures',
    {
      config: { role: 'publisher', idempotent: true, problems: ['signature-invalid'] },
      schema: {
        ...op('images', 'signImage', 'Adds a signature to an image version.'),
        body: Type.Unknown(),
        querystring: nothing,
        params: imagePath,
        response: { 200: signedAnswer, 201: signedAnswer },
      },
    },
    async (request, reply) => {
      const { params, body } = request
      const ref = { name: parseImageName(params.name), version: parseImageVersion(params.version) }
      const by = auth.byOf(request)
      const signed = await once(context, by, () => signImage(context, by, ref, body))
      return reply.code(signed.added ? 201 : 200).send(signed)
    },
  )
  app.post(
    '/images/:name/:version/reread',
    {
      config: { role: ['operator', 'publisher'], problems: ['digest-mismatch', 'store-unavailable'] },
      ...long(parts),
      schema: {
        ...op('images', 'rereadImage', 'Reads every byte of an image version back and compares its digests.'),
        body: noBody,
        querystring: nothing,
        params: imagePath,
        response: { 200: rereadAnswer },
      },
    },
    (request) => rereadImage(db, artifacts, request.params.name, request.params.version),
  )
}
