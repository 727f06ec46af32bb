import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { PawlError } from '../../errors.ts'

/** What is asked of the provider, as the Fetch API has it. */
export interface FetchOptions {
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: unknown
  readonly signal?: AbortSignal
}

/** What a provider may cost. */
export interface FetchLimits {
  /** The CA of its certificate, PEM, instead of the system's. */
  readonly ca?: string | undefined
  /** Until the answer is whole, however it comes. */
  readonly timeoutMilliseconds: number
  /** The largest answer: discovery, keys, ID tokens and userinfo are a few kB each. */
  readonly maxBytes: number
}

/** Hosts that no network is between. */
const loopback = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/

/** Whether the provider may be asked at this URL: by HTTPS, or by HTTP on this machine alone. */
export function isSafeUrl(url: URL): boolean {
  return url.protocol === 'https:' || (url.protocol === 'http:' && loopback.test(url.hostname))
}

/**
 * A fetch for talking to one provider: its own CA, one deadline for all of it, bodies of bounded size, no redirect
 * followed. The one of Node takes no CA, and reads whatever comes.
 */
export function boundedFetch(limits: FetchLimits): (url: string, options: FetchOptions) => Promise<Response> {
  return async (text, options) => {
    const url = new URL(text)
    if (!isSafeUrl(url)) throw unreachable(`it names ${url.protocol}//${url.host}, which is not HTTPS`)
    const deadline = AbortSignal.timeout(limits.timeoutMilliseconds)
    const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal])
    try {
      const message = await send(url, options, limits, signal)
      const body = await read(message, limits.maxBytes, signal)
      const status = message.statusCode ?? 502
      const hasBody = status !== 204 && status !== 205 && status !== 304
      return new Response(hasBody ? new Uint8Array(body) : null, { status, headers: headersOf(message) })
    } catch (error) {
      if (error instanceof PawlError) throw error
      throw unreachable(signal.aborted ? 'no answer in time' : reasonOf(error))
    }
  }
}

function send(
  url: URL,
  { method, headers, body }: FetchOptions,
  { ca }: FetchLimits,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const content = body === undefined || body === null ? undefined : Buffer.from(String(body))
  return new Promise((resolve, reject) => {
    const options = {
      method,
      signal,
      headers: { ...headers, ...(content === undefined ? {} : { 'content-length': content.length }) },
      agent: false as const,
    }
    const message =
      url.protocol === 'http:'
        ? httpRequest(url, options)
        : httpsRequest(url, { ...options, ...(ca === undefined ? {} : { ca }) })
    message.once('response', resolve).once('error', reject).end(content)
  })
}

async function read(message: IncomingMessage, maxBytes: number, signal: AbortSignal): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  const cut = (): void => void message.destroy(new Error('aborted'))
  signal.addEventListener('abort', cut, { once: true })
  try {
    for await (const chunk of message as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > maxBytes) throw unreachable(`its answer is larger than ${maxBytes} bytes`)
      chunks.push(chunk)
    }
    return Buffer.concat(chunks)
  } finally {
    signal.removeEventListener('abort', cut)
    message.destroy()
  }
}

/** The few that say something of a body that is read already. */
function headersOf({ headers }: IncomingMessage): Record<string, string> {
  const kept = ['content-type', 'location', 'www-authenticate', 'cache-control', 'age']
  return Object.fromEntries(
    kept.flatMap((name) => (headers[name] === undefined ? [] : [[name, String(headers[name])]])),
  )
}

function reasonOf(error: unknown): string {
  const { code, errors } = (error ?? {}) as { code?: unknown; errors?: readonly { code?: unknown }[] }
  const known = code ?? errors?.[0]?.code
  return typeof known === 'string' && /^[A-Z0-9_]{1,64}$/.test(known) ? known : 'the connection failed'
}

/** The error for a provider that cannot be asked; `why` holds nothing that it sent. */
export function unreachable(why: string): PawlError {
  return new PawlError('unreachable', 'the sign-in provider does not answer as it should', {
    hint: "try again; the server's log says why",
    internal: why,
  })
}
