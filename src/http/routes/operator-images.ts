import Type from 'typebox'
import { listImages, publishImage, showImage } from '../../fleet/images.ts'
import { nothing } from '../schemas/answers.ts'
import { imageAnswer, imagePath, imagesAnswer, publishedAnswer } from '../schemas/fleet.ts'
import { bare, long, type OperatorApp, type OperatorParts } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const
const publisher = { config: { role: 'publisher' } } as const

/** Images. A manifest is read by domain/image.ts, which says what is wrong with it better than a schema here could. */
export function imageRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { context, auth, artifacts } = parts
  const { db } = context.storage
  app.get('/images', { ...viewer, schema: { ...bare, response: { 200: imagesAnswer } } }, async () => ({
    items: await listImages(db),
    next: null,
  }))
  app.get(
    '/images/:name/:version',
    { ...viewer, schema: { ...bare, params: imagePath, response: { 200: imageAnswer } } },
    (request) => showImage(db, request.params.name, request.params.version),
  )
  app.post(
    '/images',
    {
      ...publisher,
      ...long(parts), // every byte is read back
      schema: {
        body: Type.Unknown(),
        querystring: nothing,
        response: { 200: publishedAnswer, 201: publishedAnswer },
      },
    },
    async (request, reply) => {
      const published = await publishImage(context, auth.byOf(request), artifacts, request.body)
      return reply.code(published.created ? 201 : 200).send(published)
    },
  )
}
