import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import { Compile } from 'typebox/compile'
import { type OpenApiDocument, type Operation, openApiOf } from '../../src/http/openapi.ts'

type Json = Record<string, unknown>

let described: OpenApiDocument | undefined
const validators = new Map<string, ReturnType<typeof Compile>>()

/** Throws where an answer is not one that the OpenAPI document promises: its status, its type, its fields. */
export function checkConforms(
  app: FastifyInstance,
  method: string,
  url: string,
  answer: LightMyRequestResponse,
): void {
  described ??= openApiOf(app)
  const document = described
  const path = url.split('?')[0] ?? ''
  const found = operationAt(document, method, path)
  if (found === undefined) return // no route: the answer is a 404 that no operation makes
  const { operation, name } = found
  const where = `${name} answered ${answer.statusCode}`
  const response = resolve(document, operation.responses[answer.statusCode])
  if (response === undefined) throw new Error(`${where}, which its document does not say: ${answer.body}`)
  const content = (response.content ?? {}) as Record<string, { schema?: Json }>
  const type = String(answer.headers['content-type'] ?? '').split(';')[0] ?? ''
  if (Object.keys(content).length === 0 || method === 'HEAD') {
    if (answer.body !== '') throw new Error(`${where} with a body, its document has none`)
    return
  }
  const { schema } = content[type] ?? {}
  if (schema === undefined) throw new Error(`${where} as ${type}, its document has ${Object.keys(content)}`)
  if (!type.endsWith('json')) return
  const key = `${name} ${answer.statusCode}`
  const validator = validators.get(key) ?? Compile(resolveAll(document, schema) as never)
  validators.set(key, validator)
  const body: unknown = answer.json()
  if (validator.Check(body)) return
  const [fault] = validator.Errors(body)
  throw new Error(`${where} otherwise than its document says: ${JSON.stringify(fault)}`)
}

/** The operation that a request is for: its name is `METHOD /path/{parameter}`. */
export function operationAt(
  { paths }: OpenApiDocument,
  method: string,
  path: string,
): { operation: Operation; name: string } | undefined {
  const hits = Object.entries(paths)
    .filter(([pattern]) =>
      new RegExp(`^${pattern.replaceAll('.', '\\.').replace(/\{\w+\}/g, '[^/]+')}$`).test(path),
    )
    // `/events/verify` before `/events/{id}`, as the router does it.
    .sort(([a], [b]) => a.split('{').length - b.split('{').length)
  for (const [pattern, operations] of hits) {
    const operation = operations[method.toLowerCase()]
    if (operation !== undefined) return { operation, name: `${method} ${pattern}` }
  }
  return undefined
}

function resolve(document: OpenApiDocument, value: Json | undefined): Json | undefined {
  const ref = value?.$ref
  if (typeof ref !== 'string') return value
  return ref
    .slice(2)
    .split('/')
    .reduce<unknown>((at, key) => (at as Json)[key], document) as Json
}

/** A schema with everything in it that it refers to; none of ours refers to itself. */
function resolveAll(document: OpenApiDocument, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((one) => resolveAll(document, one))
  if (typeof value !== 'object' || value === null) return value
  const whole = resolve(document, value as Json) ?? {}
  return Object.fromEntries(Object.entries(whole).map(([key, one]) => [key, resolveAll(document, one)]))
}
