import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { isPawlError, PawlError } from '../errors.ts'
import type { Connection } from './connection.ts'
import { type Answered, notPawl, parse, readAnswer, readBody, refuseProblem } from './read-answer.ts'
import { unreachable } from './unreachable.ts'

/** Parts of a query; what is undefined is left out, what is a list is there several times. */
export type Query = Readonly<Record<string, string | number | readonly string[] | undefined>>

/** What a change depends on. */
export interface Dependence {
  /** The revision that the thing must be at, where one is given. */
  readonly revision?: number | undefined
}

/**
 * The operator API. Answers are of the shapes that `src/http/schemas` describes: the server proved that it is ours, so they
 * are believed as far as their types go, and only their text is made fit for a terminal. Throws the server's own problem,
 * or `unreachable`.
 */
export interface Api {
  get<Answer>(path: string, query?: Query): Promise<Answer>
  post<Answer>(path: string, body?: unknown, on?: Dependence): Promise<Answer>
  /** A POST that makes something: where the connection is cut it is sent again, and is done once all the same. */
  create<Answer>(path: string, body?: unknown, on?: Dependence): Promise<Answer>
  patch<Answer>(path: string, body: unknown, on?: Dependence): Promise<Answer>
  put<Answer>(path: string, body: unknown, on?: Dependence): Promise<Answer>
  /** Resolves with the answer; undefined where it has no body. */
  delete<Answer = void>(path: string, on?: Dependence): Promise<Answer>
  /** How much of an upload the server has. */
  sent(path: string): Promise<Sent>
  /** Sends what is missing of an upload, as it is read. */
  upload(path: string, body: Readable, part: UploadPart): Promise<void>
  /** Opens a body to read as it comes; `onBytes` is told how much has. It ends in an error where it is cut short. */
  download(path: string, onBytes: (bytes: number) => void): Promise<Readable>
  /** Closes what is kept open between requests. */
  close(): void
}

/** How much of an upload arrived. */
export interface Sent {
  readonly whole: boolean
  /** Bytes. */
  readonly bytes: number
}

/** The part of an upload from `offset` up to its end, `size` bytes from its beginning. */
export interface UploadPart {
  readonly offset: number
  readonly size: number
}

/** Joins a path of names: each is encoded, so that none of them is another part of the path. */
export function pathOf(...names: readonly string[]): string {
  return names.map((name) => `/${encodeURIComponent(name)}`).join('')
}

/** A silent connection is given up, but where the server reads or stores all of an image, or reads all events, before it answers. */
const silenceMilliseconds = { quick: 60_000, long: 15 * 60_000 }
const slowPaths = /^\/(images|fleet|events\/verify|prune|proposals\/.*\/approve|images\/.*\/reread)$/

interface Call {
  readonly method: string
  readonly path: string
  readonly query?: Query
  readonly json?: unknown
  readonly revision?: number | undefined
  /** An Idempotency-Key. */
  readonly key?: string
  readonly body?: UploadPart & { readonly stream: Readable }
}

/** Opens the API of one server; nothing is sent yet. */
export function openApi(connection: Connection): Api {
  const agent = new Agent({ keepAlive: true, minVersion: 'TLSv1.3', ca: connection.ca, ...connection.client })
  const call = async (request: Call): Promise<Answered> => {
    const answered = await send(connection, agent, request)
    if (answered.status !== 401) return answered
    throw unknownTo(connection, answered)
  }
  const json = async <Answer>(request: Call): Promise<Answer> => readAnswer(await call(request)) as Answer // see Api
  return {
    get: (path, query) => json({ method: 'GET', path, ...(query === undefined ? {} : { query }) }),
    post: (path, body, on) => json({ method: 'POST', path, json: body, ...on }),
    create: async (path, body, on) => {
      const request = { method: 'POST', path, json: body, key: randomUUID(), ...on }
      return json<never>(request).catch((error: unknown) => {
        if (!wasCut(error)) throw error
        return json<never>(request)
      })
    },
    patch: (path, body, on) => json({ method: 'PATCH', path, json: body, ...on }),
    put: (path, body, on) => json({ method: 'PUT', path, json: body, ...on }),
    delete: async <Answer>(path: string, on?: Dependence) => {
      const answered = await call({ method: 'DELETE', path, ...on })
      refuseProblem(answered)
      return (answered.status === 204 ? undefined : readAnswer(answered)) as Answer // see Api
    },
    sent: async (path) => {
      const answered = await call({ method: 'HEAD', path })
      if (answered.status !== 404) refuseProblem(answered)
      return { whole: answered.status !== 404, bytes: answered.uploadOffset ?? 0 }
    },
    upload: async (path, stream, part) => {
      refuseProblem(await call({ method: 'PUT', path, body: { ...part, stream } }))
    },
    download: (path, onBytes) => download(connection, agent, path, onBytes),
    close: () => agent.destroy(),
  }
}

/** Whether the connection was cut, so that nobody knows whether the request was done. */
function wasCut(error: unknown): boolean {
  const { cause } = isPawlError(error, 'unreachable') ? error : {}
  const { code } = (cause ?? {}) as { code?: unknown }
  return code === 'ECONNRESET' || code === 'EPIPE'
}

/** Who asks, where it is not the connection itself that says so. */
function authorizationOf({ token }: Connection): Record<string, string> {
  return token === undefined ? {} : { Authorization: `Bearer ${token}` }
}

/** What the server says is wrong with a token or certificate of its own is told; of another it says nothing. */
function unknownTo(connection: Connection, { text }: Answered): PawlError {
  const { detail } = (parse(text) ?? {}) as { detail?: unknown }
  const about = typeof detail === 'string' && !/^no valid operator token/.test(detail) ? detail : undefined
  const what = connection.client === undefined ? 'operator token' : 'client certificate'
  return new PawlError('unauthenticated', about ?? `the server does not know this ${what}`, {
    hint: connection.whenUnknown,
  })
}

async function download(
  connection: Connection,
  agent: Agent,
  path: string,
  onBytes: (bytes: number) => void,
): Promise<Readable> {
  const message = httpsRequest(urlOf(connection, { method: 'GET', path }), {
    agent,
    timeout: silenceMilliseconds.quick,
    headers: authorizationOf(connection),
  })
  message.on('timeout', () => message.destroy(Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' })))
  const answered = once(message, 'response') as Promise<[IncomingMessage]>
  message.end()
  const [response] = await answered.catch((error: unknown) => Promise.reject(unreachable(connection, error)))
  if (response.statusCode !== 200) {
    const type = (response.headers['content-type'] ?? '').split(';')[0] ?? ''
    const problem = { status: response.statusCode ?? 0, type, text: await readBody(response) }
    refuseProblem(problem)
    throw notPawl(problem)
  }
  return response.on('data', (chunk: Buffer) => onBytes(chunk.length)).pause()
}

async function send(connection: Connection, agent: Agent, call: Call): Promise<Answered> {
  const { body } = call
  const json = call.json === undefined ? undefined : Buffer.from(JSON.stringify(call.json))
  const message = httpsRequest(urlOf(connection, call), {
    agent,
    method: call.method,
    timeout: slowPaths.test(call.path) ? silenceMilliseconds.long : silenceMilliseconds.quick,
    headers: {
      Accept: 'application/json, application/problem+json',
      ...authorizationOf(connection),
      ...(call.revision === undefined ? {} : { 'If-Match': `"r${call.revision}"` }),
      ...(call.key === undefined ? {} : { 'Idempotency-Key': `"${call.key}"` }),
      ...(json === undefined ? {} : { 'Content-Type': 'application/json', 'Content-Length': json.length }),
      ...(body === undefined
        ? {}
        : {
            'Content-Type': 'application/octet-stream',
            'Content-Length': body.size - body.offset,
            'Upload-Offset': body.offset,
            'Upload-Length': body.size,
            'Upload-Complete': '?1',
          }),
    },
  })
  message.on('timeout', () => message.destroy(Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' })))
  const answered = answerTo(message)
  if (body === undefined) message.end(json)
  // Where sending fails, so does the request, or it is answered: a server that refuses an upload answers before it is whole.
  else {
    pipeline(body.stream, message).then(
      () => message.setTimeout(silenceMilliseconds.long), // the server checks and stores it now
      () => {},
    )
  }
  try {
    return await answered
  } catch (error) {
    throw isPawlError(error) ? error : unreachable(connection, error)
  } finally {
    body?.stream.destroy()
  }
}

function urlOf(connection: Connection, { path, query }: Call): URL {
  const url = new URL(`/api/v1${path}`, connection.url)
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of [value ?? []].flat()) url.searchParams.append(name, String(one))
  }
  return url
}

function answerTo(message: ReturnType<typeof httpsRequest>): Promise<Answered> {
  return new Promise((resolve, reject) => {
    message.on('error', reject)
    message.once('response', (response) => {
      readBody(response).then(
        (text) =>
          resolve({
            status: response.statusCode ?? 0,
            type: (response.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase() ?? '',
            text,
            uploadOffset: Number(response.headers['upload-offset'] ?? 0),
          }),
        reject,
      )
    })
  })
}
