import type { ClientRequest, IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { isClosedToClusters } from '../domain/cluster-address.ts'
import { parseRetryAfter } from '../domain/webhook.ts'
import { answerTo } from '../outgoing/answer.ts'
import { type Resolve, resolveHost } from '../outgoing/resolve.ts'
import { errorOfExchange, errorOfStatus, KubernetesError } from './faults.ts'
import { endedInWords, type Kubeconfig } from './kubeconfig.ts'
import { sentSecrets } from './sent-secrets.ts'

/**
 * Asks a Kubernetes API: one connection a request, bounded in time and bytes, believed by the kubeconfig's CA alone. An API
 * server is on a private network nearly always, so those are open here, where a webhook's are not: TLS to a CA that an
 * operator wrote down answers for it. Only link-local addresses are closed, where clouds hand out credentials.
 */
export interface Kubernetes {
  /** Sends a request, and gives the object that is the answer. Throws KubernetesError. */
  request(method: KubernetesMethod, path: string, body?: object): Promise<KubernetesObject>
}

/** What is asked with. A PATCH is a JSON merge patch (RFC 7386). */
export type KubernetesMethod = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** An object as the API wrote it: nothing of it is believed before it is looked at. */
export type KubernetesObject = Readonly<Record<string, unknown>>

/** How long and how much a request may take. */
export interface KubernetesOptions {
  readonly clock: () => Date
  readonly connectMilliseconds?: number
  readonly answerMilliseconds?: number
  readonly maxAnswerBytes?: number
  readonly resolve?: Resolve
}

const connectMilliseconds = 5000
const answerMilliseconds = 15_000
/** Fifty pods with everything that controllers write into them are below 2 MiB. */
const maxAnswerBytes = 4 * 1024 * 1024

/** A client of the API that a kubeconfig names. Nothing is connected to before it is asked. */
export function openKubernetes(config: Kubeconfig, options: KubernetesOptions): Kubernetes {
  return {
    async request(method, path, body) {
      const over = endedInWords(config, options.clock())
      if (over !== undefined) throw new KubernetesError('expired-certificate', over)
      const cut = new AbortController()
      const timer = setTimeout(() => cut.abort(), options.answerMilliseconds ?? answerMilliseconds)
      try {
        return await exchange(config, options, cut.signal, { method, path, body })
      } catch (error) {
        if (cut.signal.aborted) throw noAnswerInTime()
        throw error instanceof KubernetesError ? error : errorOfExchange(error)
      } finally {
        clearTimeout(timer)
      }
    },
  }
}

interface Asked {
  readonly method: KubernetesMethod
  readonly path: string
  readonly body: object | undefined
}

async function exchange(
  config: Kubeconfig,
  options: KubernetesOptions,
  signal: AbortSignal,
  asked: Asked,
): Promise<KubernetesObject> {
  const addresses = await unless(signal, addressesOf(config.server, options.resolve ?? resolveHost))
  const body = Buffer.from(asked.body === undefined ? '' : JSON.stringify(asked.body))
  const request = requestTo(config, addresses, signal, asked)
  if (asked.body !== undefined) {
    const kind = asked.method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'
    request.setHeader('content-type', kind)
    request.setHeader('content-length', body.length)
  }
  endWithoutConnection(request, options.connectMilliseconds ?? connectMilliseconds)
  const response = await answerTo(request, body)
  const text = await textOf(response, options.maxAnswerBytes ?? maxAnswerBytes).finally(() =>
    request.destroy(),
  )
  const status = response.statusCode ?? 0
  if (status >= 200 && status < 300) return objectOf(text)
  const retryAfterSeconds = parseRetryAfter(response.headers['retry-after'], options.clock())
  throw errorOfStatus(status, { body: text, retryAfterSeconds }, sentSecrets(config, asked.body))
}

async function addressesOf(server: URL, resolve: Resolve): Promise<readonly string[]> {
  const host = hostOf(server)
  const found = isIP(host) === 0 ? await resolve(host) : [host]
  const open = found.slice(0, 16).filter((address) => !isClosedToClusters(address))
  if (open.length > 0) return open
  throw new KubernetesError(
    'unreachable',
    found.length === 0
      ? 'no answer from the Kubernetes API: its name has no address'
      : 'the Kubernetes API is not asked at a link-local address',
  )
}

function requestTo(
  config: Kubeconfig,
  addresses: readonly string[],
  signal: AbortSignal,
  { method, path }: Asked,
): ClientRequest {
  const { server, ca, serverName, token, certificate } = config
  const host = hostOf(server)
  const name = serverName ?? (isIP(host) === 0 ? host : undefined)
  const lookup: LookupFunction = (_host, options, done) => {
    const all = addresses.map((address) => ({ address, family: isIP(address) }))
    const [first] = all
    if (options.all === true) done(null, all)
    else done(null, first?.address ?? '', first?.family ?? 4)
  }
  return httpsRequest({
    method,
    host,
    port: server.port === '' ? 443 : Number(server.port),
    path: `${server.pathname.replace(/\/$/, '')}${path}`,
    headers: {
      host: server.host,
      accept: 'application/json',
      'user-agent': 'pawl',
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    agent: false,
    lookup,
    signal,
    maxHeaderSize: 16 * 1024,
    minVersion: 'TLSv1.2',
    ca,
    // As Go does: whatever certificate is written down is a root, an intermediate one too.
    allowPartialTrustChain: true,
    ...(name === undefined ? {} : { servername: name }),
    ...(certificate === undefined ? {} : { cert: certificate.certificate, key: certificate.key }),
  })
}

/** Ends a request whose TLS handshake is not over in time: an answer may take longer than that, a connection may not. */
function endWithoutConnection(request: ClientRequest, milliseconds: number): void {
  const timer = setTimeout(
    () => request.destroy(Object.assign(new Error(), { code: 'ETIMEDOUT' })),
    milliseconds,
  )
  request.once('socket', (socket) => socket.once('secureConnect', () => clearTimeout(timer)))
  request.once('close', () => clearTimeout(timer))
}

async function textOf(response: IncomingMessage, most: number): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > most)
      throw new KubernetesError('bad-answer', `the Kubernetes API answered more than ${most} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function objectOf(text: string): KubernetesObject {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {}
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as KubernetesObject // checked on this line
  throw new KubernetesError(
    'bad-answer',
    'what answers is not a Kubernetes API: its answer is not a JSON object',
  )
}

function noAnswerInTime(): KubernetesError {
  return new KubernetesError('timeout', 'no answer from the Kubernetes API in time')
}

function hostOf(server: URL): string {
  return server.hostname.replace(/^\[|\]$/g, '')
}

/** Waits for `work` no longer than the signal allows. */
function unless<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true })
    work.then(resolve, reject)
  })
}
