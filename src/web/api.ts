import type { Whoami } from './shapes.ts'

/** An answer that is a problem document (RFC 9457), or no answer at all (status 0). */
export class ApiError extends Error {
  readonly status: number
  readonly code: string
  readonly hint: string | undefined

  constructor(status: number, code: string, message: string, hint?: string) {
    super(message)
    this.status = status
    this.code = code
    this.hint = hint
  }
}

/** Another that comes later than this is not waited for. */
const timeoutMilliseconds = 30_000
const tokenKey = 'pawl-token'

let token = sessionStorage.getItem(tokenKey) ?? undefined
let csrf: string | null = null
let onSignedOut = (): void => {}

/** Calls `listener` when the server says that nobody is signed in any more. */
export function whenSignedOut(listener: () => void): void {
  onSignedOut = listener
}

/** Takes an operator token for this tab, or forgets it. It is kept until the tab is closed. */
export function useToken(text: string | undefined): void {
  token = text
  if (text === undefined) sessionStorage.removeItem(tokenKey)
  else sessionStorage.setItem(tokenKey, text)
}

/** Whether this tab signs its requests with a token; otherwise the browser's cookie does. */
export function hasToken(): boolean {
  return token !== undefined
}

/** Who is signed in; undefined where nobody is. Throws ApiError where the server does not say. */
export async function whoAmI(): Promise<Whoami | undefined> {
  try {
    const who = await get<Whoami>('whoami')
    csrf = who.csrf
    return who
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return undefined
    throw error
  }
}

/** What a request carries. */
export interface Asked {
  readonly method?: 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly body?: unknown
  /** The revision that the change is based on: another one's change in between is refused, not overwritten. */
  readonly revision?: number | undefined
}

/** Asks for a path below /api/v1; throws ApiError. */
export async function get<T>(path: string): Promise<T> {
  return (await send(path, {})) as T
}

/** Changes something; throws ApiError. */
export async function change<T>(path: string, asked: Asked): Promise<T> {
  return (await send(path, { method: 'POST', ...asked })) as T
}

/** Opens a stream that ends with `signal`; throws ApiError. */
export async function open(path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
  const answer = await ask(path, { headers: { ...credentials(), accept: 'text/event-stream' }, signal })
  if (answer.body === null) throw new ApiError(0, 'no-answer', 'the server sends no events')
  return answer.body
}

async function send(path: string, { method, body, revision }: Asked): Promise<unknown> {
  const headers = {
    ...credentials(),
    ...(method === undefined || csrf === null ? {} : { 'x-pawl-csrf': csrf }),
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    ...(revision === undefined ? {} : { 'if-match': `"r${revision}"` }),
  }
  const answer = await ask(path, {
    method: method ?? 'GET',
    headers,
    signal: AbortSignal.timeout(timeoutMilliseconds),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return answer.status === 204 ? undefined : await answer.json()
}

async function ask(path: string, init: RequestInit): Promise<Response> {
  const asked = token
  const answer = await fetch(`/api/v1/${path}`, { ...init, cache: 'no-store' }).catch((cause: unknown) => {
    const late = cause instanceof DOMException && cause.name === 'TimeoutError'
    throw new ApiError(0, 'no-answer', late ? 'the server does not answer' : 'the server cannot be reached')
  })
  if (answer.ok) return answer
  // Of a token that was given back meanwhile nobody wants to know.
  if (answer.status === 401 && asked === token) onSignedOut()
  throw await problemOf(answer)
}

async function problemOf(answer: Response): Promise<ApiError> {
  const document: unknown = await answer.json().catch(() => ({}))
  const { code, detail, title, hint } = document as Partial<Record<string, string>>
  return new ApiError(answer.status, code ?? 'unknown', detail ?? title ?? `status ${answer.status}`, hint)
}

function credentials(): Record<string, string> {
  return token === undefined ? {} : { authorization: `Bearer ${token}` }
}
