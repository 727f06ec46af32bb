import type { RouteOptions } from 'fastify'
import t from 'tap'
import { bareListener } from '../../.ci/openapi.ts'
import { lateSchemas } from '../../src/http/late-schemas.ts'

t.test('every schema of the operator API compiles, although no start tries', async (t) => {
  const routes: RouteOptions[] = []
  const app = await bareListener((app) => app.addHook('onRoute', (route) => void routes.push(route)))
  await app.close()
  const { buildValidator, buildSerializer } = lateSchemas.compilersFactory
  const validatorOf = buildValidator({} as never, {} as never) as (
    route: object,
  ) => (value: unknown) => unknown
  const serializerOf = buildSerializer({}, {})
  let compiled = 0
  for (const { method, url, schema = {} } of routes) {
    const where = `${String(method)} ${url}`
    for (const httpPart of ['body', 'querystring', 'params', 'headers'] as const) {
      if (schema[httpPart] === undefined) continue
      // Null is of some schemas and not of others: what counts is that it can be said.
      t.doesNotThrow(() => validatorOf({ schema: schema[httpPart], httpPart })(null), `${where} ${httpPart}`)
      compiled += 1
    }
    for (const [status, answer] of Object.entries((schema.response ?? {}) as Record<string, object>)) {
      const { type } = answer as { type?: string }
      const example = type === 'array' ? [] : type === 'null' ? null : {}
      const message = said(() => serializerOf({ schema: answer, method: 'GET', url } as never)(example))
      // It was compiled where it says what an answer of nothing lacks.
      t.match(message, /^$|is required!|does not match schema definition|anyOf|oneOf/, `${where} ${status}`)
      compiled += 1
    }
  }
  t.ok(compiled > 200, `${compiled} schemas`)
})

function said(step: () => unknown): string {
  try {
    step()
    return ''
  } catch (error) {
    return (error as Error).message
  }
}
