import swagger from '@fastify/swagger'
import type { FastifyInstance, RouteOptions } from 'fastify'
import { type ErrorCode, errorCodes } from '../errors.ts'
import { sessionCookie } from './credentials.ts'
import { STATUS_CODES, statusOf } from './problem.ts'
import { apiTags } from './routes/operator-app.ts'
import { problemSchema } from './schemas/problem.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Errors that this route answers beside those that its kind of route does. */
    problems?: readonly ErrorCode[]
  }
}

/**
 * The OpenAPI document. What @fastify/swagger reads from the schemas that check requests and answers is one half; the other
 * is what holds for all routes of a kind: who may, which errors, which headers. Schemas with a title become components.
 */
export type OpenApiDocument = { readonly [field: string]: unknown } & {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
}

type Json = Record<string, unknown>

/** One operation of the document, as far as we read it. */
export interface Operation extends Json {
  operationId?: string
  parameters?: Json[]
  requestBody?: { content: Record<string, { schema?: Json }>; required?: boolean }
  responses: Record<string, Json & { content?: Json; headers?: Json }>
}

/** A route as it was registered, with what the document tells of it beside its schemas. */
type Route = Pick<RouteOptions, 'url' | 'method' | 'config' | 'schema'>

/** Adds the document to a listener; call it before any route is added. Read it when the listener is ready. */
export function addOpenApi(app: FastifyInstance): void {
  const routes: Route[] = []
  app.addHook('onRoute', (route) => {
    refuseNameless(route)
    routes.push(route)
  })
  app.register(swagger, {
    exposeHeadRoutes: true,
    convertConstToEnum: false,
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Pawl operator API',
        version: '1',
        summary: 'What operators do with a fleet of machines that boot over the network.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: '/', description: 'The operator listener that gave this document.' }],
      tags: Object.entries(apiTags).map(([name, description]) => ({ name, description })),
    },
    transformObject: (given) => {
      if (!('openapiObject' in given)) return given.swaggerObject
      return finish(structuredClone(given.openapiObject) as unknown as OpenApiDocument, routes) as never
    },
  })
}

/** Every route has a name, a sentence and a place in the document. */
function refuseNameless({ method, url, schema }: Route): void {
  if (schema?.operationId !== undefined && schema.summary !== undefined && schema.tags?.length === 1) return
  throw new Error(`route ${String(method)} ${url} does not say its operationId, summary and tag`)
}

/** The document of a listener that is ready. */
export function openApiOf(app: FastifyInstance): OpenApiDocument {
  return app.swagger() as unknown as OpenApiDocument
}

function finish(document: OpenApiDocument, routes: readonly Route[]): OpenApiDocument {
  for (const route of routes) {
    const operation = document.paths[pathOf(route.url)]?.[String(route.method).toLowerCase()]
    if (operation !== undefined) complete(operation, route)
  }
  const schemas: Json = { Problem: plain(problemSchema) }
  const paths = hoist(document.paths, schemas) as OpenApiDocument['paths']
  return {
    ...document,
    paths,
    components: {
      schemas: Object.fromEntries(Object.entries(schemas).sort(([a], [b]) => (a < b ? -1 : 1))),
      parameters,
      headers,
      responses: problemResponses(JSON.stringify(paths)),
      securitySchemes,
    },
    security: Object.keys(securitySchemes).map((name) => ({ [name]: [] })),
  }
}

/** `/nodes/:name` as the document writes it. */
export function pathOf(url: string): string {
  return url.replace(/:([A-Za-z]+)/g, '{$1}')
}

function complete(operation: Operation, { method, config = {}, schema, url }: Route): void {
  operation.operationId = schema?.operationId ?? ''
  const roles = typeof config.role === 'string' ? [config.role] : (config.role ?? [])
  operation['x-pawl-role'] = roles.length === 1 ? roles[0] : roles
  operation.description = [schema?.description, whoMay(config.role)]
    .filter((text) => text !== undefined)
    .join(' ')
  if (config.role === 'anyone') operation.security = []
  completeBody(operation)
  for (const [status, response] of Object.entries(operation.responses)) {
    if (response.description === 'Default Response') response.description = STATUS_CODES[status] ?? status
    if (status === '204' || String(method) === 'HEAD') delete response.content
  }
  addConditions(operation, String(method), config)
  const codes = codesOf(String(method), url, config)
  for (const status of new Set(codes.map(statusOf)))
    operation.responses[status] ??= { $ref: `#/components/responses/Problem${status}` }
}

/** Who may, in words. */
function whoMay(role: NonNullable<Route['config']>['role']): string {
  if (role === 'anyone') return 'Needs no sign-in.'
  if (role === 'viewer') return 'Every role may.'
  const roles = typeof role === 'string' ? role : (role ?? []).join(' or ')
  return roles === 'admin' ? 'Needs the role admin.' : `Needs the role ${roles}, or admin.`
}

/** A body that may be left out, or is nothing, is not described as one that is needed. */
function completeBody(operation: Operation): void {
  const [content] = Object.values(operation.requestBody?.content ?? {})
  if (operation.requestBody === undefined || content?.schema === undefined) return
  const { anyOf, title } = content.schema as { anyOf?: Json[]; title?: string }
  if (title === 'Nothing') {
    delete operation.requestBody
    return
  }
  // Null is what Fastify checks where there is no body.
  operation.requestBody.required = anyOf?.some(({ type }) => type === 'null') !== true
  const bodies = anyOf?.filter(({ type }) => type !== 'null') ?? []
  const [body] = bodies
  if (body !== undefined && bodies.length === 1) content.schema = body
}

function addConditions(operation: Operation, method: string, config: NonNullable<Route['config']>): void {
  const add = (name: keyof typeof parameters) => {
    operation.parameters = [...(operation.parameters ?? []), { $ref: `#/components/parameters/${name}` }]
  }
  if (config.idempotent === true) add('IdempotencyKey')
  if (config.revised === undefined) return
  add(method === 'GET' ? 'IfNoneMatch' : 'IfMatch')
  if (config.revised === 'create') add('IfNoneMatchAny')
  if (method === 'GET') operation.responses['304'] = { description: 'Not Modified: nothing has changed.' }
  for (const [status, response] of Object.entries(operation.responses))
    if ((status.startsWith('2') && status !== '204') || status === '304')
      response.headers = { ...response.headers, ETag: { $ref: '#/components/headers/ETag' } }
}

/** What may go wrong with a route of this kind. */
function codesOf(method: string, url: string, config: NonNullable<Route['config']>): ErrorCode[] {
  const changes = method !== 'GET' && method !== 'HEAD'
  const codes: ErrorCode[] = ['invalid', 'internal', 'overloaded', ...(config.problems ?? [])]
  if (config.role !== 'anyone') codes.push('unauthenticated', 'too-many-attempts')
  if (config.role !== 'anyone' && (config.role !== 'viewer' || changes)) codes.push('forbidden')
  if (url.includes(':') || changes) codes.push('not-found')
  if (changes) codes.push('conflict', 'too-large')
  if (changes && config.revised !== undefined) codes.push('precondition-failed')
  if (config.idempotent === true) codes.push('idempotency-key-reused')
  return codes
}

/** Takes schemas with a name out of where they stand: one place each, and a reference from everywhere else. */
function hoist(value: unknown, into: Json): unknown {
  if (Array.isArray(value)) return value.map((one) => hoist(one, into))
  if (typeof value !== 'object' || value === null) return value
  const { title, ...rest } = value as Json
  const inner = Object.fromEntries(Object.entries(rest).map(([key, one]) => [key, hoist(one, into)]))
  if (typeof title !== 'string') return title === undefined ? inner : { title: hoist(title, into), ...inner }
  const known = into[title]
  if (known !== undefined && JSON.stringify(known) !== JSON.stringify(inner))
    throw new Error(`two schemas are named ${title}`)
  into[title] = inner
  return { $ref: `#/components/schemas/${title}` }
}

/** A schema without what only typebox needs. */
function plain(schema: unknown): Json {
  return JSON.parse(JSON.stringify(schema)) as Json
}

/** The responses of errors that some route answers. */
function problemResponses(paths: string): Json {
  const codes = Object.keys(errorCodes) as ErrorCode[] // the table's own keys
  const content = { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } }
  const entries = [...Map.groupBy(codes, statusOf)]
    .filter(([status]) => paths.includes(`/Problem${status}"`))
    .sort(([a], [b]) => a - b)
    .map(([status, group]) => {
      const pause = status === 429 || status === 503 || status === 409
      const headers = pause ? { headers: { 'Retry-After': { $ref: '#/components/headers/RetryAfter' } } } : {}
      const description = `${STATUS_CODES[status]}. ${group.map((code) => `\`${code}\`: ${errorCodes[code]}.`).join(' ')}`
      return [`Problem${status}`, { description, content, ...headers }]
    })
  return Object.fromEntries(entries)
}

const parameters = {
  IfMatch: {
    name: 'If-Match',
    in: 'header',
    description:
      'Changes nothing unless the thing is at this revision: its ETag, or `"r12"` for revision 12, or `*` for any.',
    schema: { type: 'string' },
    example: '"r12"',
  },
  IfNoneMatch: {
    name: 'If-None-Match',
    in: 'header',
    description: 'An ETag of before: 304 is answered where nothing has changed since.',
    schema: { type: 'string' },
  },
  IfNoneMatchAny: {
    name: 'If-None-Match',
    in: 'header',
    description: '`*`: makes the thing, and changes none that is there.',
    schema: { type: 'string', enum: ['*'] },
  },
  IdempotencyKey: {
    name: 'Idempotency-Key',
    in: 'header',
    description:
      'A random text of 16 to 255 characters, in quotes or not. Sent again within 24 hours with the same request, the change is not made again, and the first answer is given.',
    schema: { type: 'string', minLength: 16, maxLength: 257 },
    example: '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
  },
} as const

const headers = {
  ETag: {
    description: 'The revision, and with a GET a hash of the answer behind a dot.',
    schema: { type: 'string' },
    example: '"r12.9f86d081884c7d65"',
  },
  RetryAfter: { description: 'Seconds after which to ask again.', schema: { type: 'integer' } },
} as const

/** How operators sign in; one of these is enough. */
const securitySchemes = {
  token: {
    type: 'http',
    scheme: 'bearer',
    description: 'An operator token: `pawl operator token create`, or `DIR/admin.token`.',
  },
  session: {
    type: 'apiKey',
    in: 'cookie',
    name: sessionCookie,
    description:
      'The session of a person who signed in with a browser. Changes by it also need the header `X-Pawl-CSRF` with the `csrf` of whoami, and come from a page of the server.',
  },
  certificate: { type: 'mutualTLS', description: 'A client certificate that an admin had the server issue.' },
} as const
