import { openApiOf } from '../openapi.ts'
import { anyObject } from '../schemas/answers.ts'
import { bare, type OperatorApp, op } from './operator-app.ts'

/**
 * The document that describes this API. Whoever reaches the listener may read it: it holds no secret and tells nothing of
 * an installation (it is the file docs/openapi.json of the release), and tools that make clients have no token to send.
 */
export function openApiRoutes(app: OperatorApp): void {
  let text: string | undefined
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
      text ??= JSON.stringify(openApiOf(app as never))
      return reply.type('application/json').send(text as never) // written already: it is sent as it is
    },
  )
}
