import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { PawlError } from '../errors.ts'
import type { By } from '../fleet/change.ts'
import type { Idempotency } from '../fleet/idempotency.ts'
import type { Precondition } from '../fleet/revision.ts'
import type { OperatorAuth } from './operator-auth.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * What the route answers or changes has revisions: a GET answers with an ETag and 304 to If-None-Match, a change takes
     * If-Match. `create`: a PUT that also makes the thing, and takes `If-None-Match: *`.
     */
    revised?: true | 'create'
    /** The route takes an Idempotency-Key: it makes one change, and answers what that change answers. */
    idempotent?: true
  }
}

/** What requests may depend on: the sign-in check's `byOf`, with If-Match and Idempotency-Key read into it. */
export function withConditions(auth: OperatorAuth): OperatorAuth {
  return {
    ...auth,
    byOf(request): By {
      const { config } = request.routeOptions
      return {
        ...auth.byOf(request),
        precondition: readPrecondition(request, config.revised),
        idempotency: config.idempotent === true ? readIdempotency(request) : undefined,
      }
    },
  }
}

function readPrecondition(
  { headers }: FastifyRequest,
  revised: true | 'create' | undefined,
): Precondition | undefined {
  const match = headers['if-match']
  const noneMatch = headers['if-none-match']
  if (match === undefined && noneMatch === undefined) return undefined
  if (revised === undefined)
    throw new PawlError('invalid', 'what this path changes has no ETag: If-Match means nothing here')
  if (noneMatch === undefined) return { at: readTags(match ?? '') }
  if (match !== undefined) throw new PawlError('invalid', 'If-Match and If-None-Match exclude each other')
  if (noneMatch !== '*' || revised !== 'create')
    throw new PawlError('invalid', 'If-None-Match with a change is "*", where the change may make the thing')
  return { absent: true }
}

const maxTags = 20

/** An ETag is `"r12.1f2e3d4c"`: the revision, which a change depends on, and a hash of the answer, which a cache does. */
function readTags(text: string): readonly number[] | 'any' {
  if (text.trim() === '*') return 'any'
  const tags = text.split(',').map((tag) => tag.trim())
  if (tags.length > maxTags) throw new PawlError('invalid', `If-Match has more than ${maxTags} tags`)
  return tags.flatMap((tag) => {
    if (tag.startsWith('W/'))
      throw new PawlError('invalid', 'If-Match has a weak tag, which matches nothing (RFC 9110 §13.1.1)')
    if (!/^"[\x21\x23-\x7e]{0,100}"$/.test(tag))
      throw new PawlError('invalid', 'If-Match is not * or a list of tags in quotes, as in "r12"')
    const revision = /^"r(\d{1,9})(?:\.[0-9a-f]{1,64})?"$/.exec(tag)?.[1]
    return revision === undefined ? [] : [Number(revision)]
  })
}

/** The header holds a string in quotes (RFC 9651); it is taken without them too, as many clients send it. */
function readIdempotency({ headers, method, url, body }: FastifyRequest): Idempotency | undefined {
  const text = headers['idempotency-key']
  if (text === undefined) return undefined
  const key = typeof text === 'string' ? text.replace(/^"(.*)"$/, '$1') : ''
  if (!/^[\x21\x23-\x5b\x5d-\x7e]{16,255}$/.test(key)) {
    throw new PawlError('invalid', 'Idempotency-Key is not 16 to 255 visible ASCII characters', {
      hint: 'make a random one for each request, a UUID for example',
    })
  }
  return { key, request: `${method} ${url} ${textOf(body)}` }
}

/** The same text for the same body, whatever the order of its fields. */
function textOf(body: unknown): string {
  const sorted = (_key: string, value: unknown): unknown =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value
  try {
    return JSON.stringify(body ?? null, sorted)
  } catch {
    throw new PawlError('invalid', 'the body is nested too deep') // for the stack
  }
}

/** Gives answers of what has revisions their ETag, and answers 304 to who has them already. */
export function answerConditions(app: Pick<FastifyInstance, 'addHook'>): void {
  const revisions = new WeakMap<FastifyReply, number>()
  app.addHook('preSerialization', async (request, reply, payload) => {
    if (request.routeOptions.config.revised === undefined || reply.statusCode >= 300) return payload
    const revision = (payload as { revision?: unknown } | null)?.revision
    if (typeof revision === 'number') revisions.set(reply, revision)
    return payload
  })
  app.addHook('onSend', async (request, reply, payload) => {
    const revision = revisions.get(reply)
    if (revision === undefined || typeof payload !== 'string') return payload
    // What a change answers is not what a GET answers: its tag has the revision alone.
    const tag = request.method === 'GET' ? `"r${revision}.${shortHash(payload)}"` : `"r${revision}"`
    reply.header('etag', tag)
    if (request.method !== 'GET' || !wants(request.headers['if-none-match'], tag)) return payload
    reply.code(304).removeHeader('content-type').removeHeader('content-length')
    return ''
  })
}

/** If-None-Match compares weakly: a proxy may have weakened our tag. */
function wants(text: string | undefined, tag: string): boolean {
  if (text === undefined || text.length > 2000) return false
  return text.trim() === '*' || text.split(',').some((one) => one.trim().replace(/^W\//, '') === tag)
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}
