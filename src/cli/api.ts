import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type ErrorCode, errorCodes, isPawlError, PawlError } from '../errors.ts'
import type { Connection } from './connection.ts'
import { unreachable } from './unreachable.ts'

/** Parts of a query; what is undefined is left out. */
export type Query = Readonly<Record<string, string | number | undefined>>

/**
 * The operator API. Answers are of the shapes that `src/http/schemas` describes: the server proved that it is ours, so they
 * are believed as far as their types go, and only their text is made fit for a terminal. Throws the server's own problem,
 * or `unreachable`.
 */
export interface Api {
  get<Answer>(path: string, query?: Query): Promise<Answer>
  post<Answer>(path: string, body?: unknown): Promise<Answer>
  patch<Answer>(path: string, body: unknown): Promise<Answer>
  put<Answer>(path: string, body: unknown): Promise<Answer>
  /** Resolves with the answer; undefined where it has no body. */
  delete<Answer = void>(path: string): Promise<Answer>
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
const slowPaths = /^\/(images|events\/verify|prune|proposals\/.*\/approve|images\/.*\/reread)$/
const maxAnswerBytes = 64 * 2 ** 20

interface Call {
  readonly method: string
  readonly path: string
  readonly query?: Query
  readonly json?: unknown
  readonly body?: UploadPart & { readonly stream: Readable }
}

/** Opens the API of one server; nothing is sent yet. */
export function openApi(connection: Connection): Api {
  const agent = new Agent({ keepAlive: true, minVersion: 'TLSv1.3', ca: connection.ca })
  const call = async (request: Call): Promise<Answered> => {
    const answered = await send(connection, agent, request)
    if (answered.status !== 401) return answered
    throw new PawlError('unauthenticated', 'the server does not know this operator token', {
      hint: connection.whenUnknown,
    })
  }
  const json = async <Answer>(request: Call): Promise<Answer> => readAnswer(await call(request)) as Answer // see Api
  return {
    get: (path, query) => json({ method: 'GET', path, ...(query === undefined ? {} : { query }) }),
    post: (path, body) => json({ method: 'POST', path, json: body }),
    patch: (path, body) => json({ method: 'PATCH', path, json: body }),
    put: (path, body) => json({ method: 'PUT', path, json: body }),
    delete: async <Answer>(path: string) => {
      const answered = await call({ method: 'DELETE', path })
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

async function download(
  connection: Connection,
  agent: Agent,
  path: string,
  onBytes: (bytes: number) => void,
): Promise<Readable> {
  const message = httpsRequest(urlOf(connection, { method: 'GET', path }), {
    agent,
    timeout: silenceMilliseconds.quick,
    headers: { Authorization: `Bearer ${connection.token}` },
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

interface Answered {
  readonly status: number
  readonly type: string
  readonly text: string
  /** Upload-Offset; 0 where there is none. */
  readonly uploadOffset?: number
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
      Authorization: `Bearer ${connection.token}`,
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
    if (value !== undefined) url.searchParams.set(name, String(value))
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

async function readBody(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxAnswerBytes)
      throw new PawlError('too-large', 'the answer of the server is larger than 64 MiB')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function readAnswer(answered: Answered): unknown {
  refuseProblem(answered)
  if (answered.status === 204) return undefined
  const value = answered.type === 'application/json' ? parse(answered.text) : undefined
  if (value === undefined) throw notPawl(answered)
  return value
}

/** Throws what the server says is wrong, as if it had been thrown here. */
function refuseProblem(answered: Answered): void {
  const { status, type, text } = answered
  if (status >= 200 && status < 300) return
  if (text === '' && isSilent(status)) throw silentProblem(status)
  const problem = type === 'application/problem+json' ? parse(text) : undefined
  if (problem === undefined) throw notPawl(answered)
  const { detail, code, hint, requestId } = problem as Readonly<Record<string, unknown>>
  if (typeof detail !== 'string') throw notPawl(answered)
  const advice =
    typeof hint === 'string'
      ? hint
      : typeof requestId === 'string'
        ? `the server's log has the cause under request id ${requestId}`
        : undefined
  throw new PawlError(isCode(code) ? code : 'internal', detail, advice === undefined ? {} : { hint: advice })
}

/** HEAD has no body to say it in. */
const silentProblems = {
  403: ['forbidden', 'the operator token does not have the role this needs'],
  503: ['overloaded', 'the server has no room for this request now'],
} as const satisfies Record<number, readonly [ErrorCode, string]>

function isSilent(status: number): status is keyof typeof silentProblems {
  return Object.hasOwn(silentProblems, status)
}

function silentProblem(status: keyof typeof silentProblems): PawlError {
  const [code, message] = silentProblems[status]
  return new PawlError(code, message)
}

function notPawl({ status }: Answered): PawlError {
  return new PawlError(
    'unreachable',
    `the server answered ${status} in a form that this pawl does not know`,
    {
      hint: 'is this the operator listener, and of the same version?',
    },
  )
}

function isCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(errorCodes, code)
}

/** A JSON object, or undefined. */
function parse(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}
