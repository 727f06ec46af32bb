import { Readable } from 'node:stream'
import { parseDigest } from '../../domain/digest.ts'
import { parseImageName, parseImageVersion } from '../../domain/image.ts'
import Type from '../../domain/schema.ts'
import { once } from '../../fleet/idempotency.ts'
import { listImageTests, recordImageTest } from '../../fleet/image-tests.ts'
import { pageOf } from '../../fleet/listed.ts'
import { prune } from '../../fleet/prune.ts'
import type { OpenArtifact } from '../../images/artifacts.ts'
import { nothing, pageAsked, pageQuery } from '../schemas/answers.ts'
import { artifactPath, imagePath } from '../schemas/fleet.ts'
import {
  imageTestAnswer,
  imageTestsAnswer,
  newImageTest,
  pruneAnswer,
  pruneRequest,
} from '../schemas/image-test.ts'
import { bare, long, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const
const publisher = { config: { role: 'publisher' } } as const

/** Tests of images, and the bytes that whoever tests or copies an image needs. */
export function imageTestRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { context, auth, artifacts } = parts
  const params = imagePath
  app.get(
    '/images/:name/:version/tests',
    {
      ...viewer,
      schema: {
        ...op('images', 'listImageTests', 'Lists the test boots of an image version, the latest first.'),
        querystring: pageQuery,
        params,
        response: { 200: imageTestsAnswer },
      },
    },
    async (request) => {
      const { name, version } = request.params
      const tests = await listImageTests(context.storage.db, name, version)
      return pageOf(tests, ({ id }) => id, pageAsked(request.query))
    },
  )
  app.post(
    '/images/:name/:version/tests',
    {
      config: { role: 'publisher', idempotent: true },
      schema: {
        ...op('images', 'recordImageTest', 'Records how a test boot of an image version went.'),
        params,
        body: newImageTest,
        querystring: nothing,
        response: { 201: imageTestAnswer },
      },
    },
    async (request, reply) => {
      const ref = {
        name: parseImageName(request.params.name),
        version: parseImageVersion(request.params.version),
      }
      const by = auth.byOf(request)
      const recorded = await once(context, by, () => recordImageTest(context, by, ref, request.body))
      return reply.code(201).send(recorded)
    },
  )
  app.get(
    '/artifacts/sha256/:hex',
    {
      ...publisher,
      ...long(parts),
      schema: {
        ...op('artifacts', 'getArtifact', 'Sends the bytes of an artifact.'),
        ...bare,
        params: artifactPath,
        produces: ['application/octet-stream'],
        response: { 200: Type.Unsafe<Readable>({ description: 'The bytes.' }) },
      },
    },
    async (request, reply) => {
      const artifact = await artifacts.open(parseDigest(request.params.hex))
      return reply
        .header('content-length', artifact.size)
        .header('cache-control', 'no-store')
        .type('application/octet-stream')
        .send(Readable.from(bytesOf(artifact), { objectMode: false }))
    },
  )
}

/** Removing what nothing uses. */
export function pruneRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { context, auth, artifacts } = parts
  app.post(
    '/prune',
    {
      config: { role: 'admin' },
      ...long(parts),
      schema: {
        ...op(
          'images',
          'pruneImages',
          'Removes image versions and artifacts that nothing uses, or says which.',
        ),
        body: pruneRequest,
        querystring: nothing,
        response: { 200: pruneAnswer },
      },
    },
    (request) => {
      const { keep = 5, olderThanSeconds = 30 * 86_400, apply = false } = request.body
      return prune(context, auth.byOf(request), artifacts, { keep, olderThanSeconds }, { dryRun: !apply })
    },
  )
}

const sliceBytes = 1 << 20

async function* bytesOf(artifact: OpenArtifact): AsyncGenerator<Buffer> {
  try {
    for (let position = 0; position < artifact.size; position += sliceBytes) {
      const slice = Buffer.allocUnsafe(Math.min(sliceBytes, artifact.size - position))
      await artifact.read(slice, position)
      yield slice
    }
  } finally {
    await artifact.close()
  }
}
