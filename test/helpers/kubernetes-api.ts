import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Test } from 'tap'
import { stringify } from 'yaml'
import { generateEcKey, generateKey, makeCertificate } from '../../src/pki/x509.ts'

/**
 * A stand-in for a Kubernetes API server, over TLS: what Pawl asks of one, answered as kube-apiserver does, and ways to hang, refuse
 * and lie. It is not one: it has no controllers, no admission, and roles only as far as `allows` says.
 */
export interface KubernetesStandIn {
  readonly url: string
  /** The CA of its certificate, PEM. */
  readonly ca: string
  /** Every object by its path, as `/api/v1/nodes/node1`. */
  readonly objects: Map<string, KubernetesObject>
  /** Every request that came, in order, refused ones too. */
  readonly requests: AskedOfKubernetes[]
  /** Writes a kubeconfig for it; by the token of the account "pawl" unless told otherwise. */
  kubeconfig(options?: KubeconfigOptions): string
  /** Puts an object there; its path is made of its kind, namespace and name. */
  add(object: KubernetesObject): void
  /** Adds a pod of a node; a ReplicaSet's unless told otherwise. */
  addPod(name: string, options?: PodOptions): void
  /** Says something other than usual: undefined answers as usual, 'hang' never. */
  answer: (asked: AskedOfKubernetes) => KubernetesAnswer | 'hang' | undefined | Promise<undefined>
  /** Carries out what was asked before and not answered, as a cluster does that is late. */
  carryOut: (asked: AskedOfKubernetes) => KubernetesAnswer
  /** Who may what; everybody with a credential everything unless told otherwise. */
  allows: (asked: AskedOfKubernetes) => boolean
  /** What becomes of an evicted pod: gone at once unless told otherwise. */
  evicted: (path: string) => void
  /** Resolves when that many requests have come which match. */
  asked(match: (asked: AskedOfKubernetes) => boolean, count?: number): Promise<void>
}

export type KubernetesObject = Record<string, unknown>

/** A request as it came. */
export interface AskedOfKubernetes {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly body: KubernetesObject | undefined
  /** `system:anonymous` without a credential. */
  readonly user: string
}

export interface KubernetesAnswer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: KubernetesObject | string
}

interface KubeconfigOptions {
  readonly as?: 'token' | 'certificate' | 'expired-certificate'
  readonly token?: string
  readonly server?: string
  /** `another`: a CA of the same name with another key, as each cluster has. */
  readonly ca?: 'its own' | 'another'
}

interface PodOptions {
  readonly node?: string
  readonly namespace?: string
  readonly owner?: string | null
  readonly annotations?: Readonly<Record<string, string>>
  readonly volumes?: readonly object[]
  readonly phase?: string
  readonly uid?: string
}

interface Pair {
  readonly certificate: string
  readonly key: string
}

/** Made once for the process: RSA keys cost. */
let made: Promise<{ root: Pair; other: Pair; server: Pair; client: Pair; expired: Pair }> | undefined

async function certificates() {
  const now = new Date()
  const authority = async (): Promise<Pair> => {
    const key = await generateKey()
    const certificate = await makeCertificate({ kind: 'root', commonName: 'kubernetes', names: [], key, now })
    return { certificate, key }
  }
  const [root, other] = await Promise.all([authority(), authority()])
  const leaf = async (
    kind: 'boot-server-ecdsa' | 'node-client',
    at: Date,
    notAfter?: Date,
  ): Promise<Pair> => {
    const key = await generateEcKey()
    const server = kind === 'boot-server-ecdsa'
    const certificate = await makeCertificate({
      kind,
      commonName: server ? 'kube-apiserver' : 'pawl',
      // 10.0.2.2 is what machines under QEMU call this machine's loopback.
      names: server ? ['localhost', '127.0.0.1', '10.0.2.2'] : [],
      key,
      now: at,
      issuer: root,
      ...(notAfter === undefined ? {} : { notAfter }),
    })
    return { certificate, key }
  }
  const [server, client, expired] = await Promise.all([
    leaf('boot-server-ecdsa', now),
    leaf('node-client', now),
    // Long ago by every clock: that of tests' worlds stands still.
    leaf('node-client', new Date('2025-01-01T00:00:00Z'), new Date('2025-02-01T00:00:00Z')),
  ])
  return { root, other, server, client, expired }
}

/** What whoever has no credential may read, and no bootstrap token. */
export const clusterInfoPath = '/api/v1/namespaces/kube-public/configmaps/cluster-info'

/** Where a kubelet asks for its certificate. Nobody signs it. */
export const certificateRequestsPath = '/apis/certificates.k8s.io/v1/certificatesigningrequests'

/** The token of the account "pawl". */
export const standInToken = 'stand-in-token-of-the-account-pawl'

/** Starts one; it ends with the test. */
export async function startKubernetesApi(t: Test): Promise<KubernetesStandIn> {
  made ??= certificates()
  const { root, other, server: own, client, expired } = await made
  const waiting: {
    readonly match: (asked: AskedOfKubernetes) => boolean
    count: number
    done: () => void
  }[] = []
  const server = createServer(
    {
      key: own.key,
      cert: own.certificate,
      ca: root.certificate,
      requestCert: true,
      rejectUnauthorized: false,
    },
    (request, response) => {
      void handle(api, request, response).then((asked) => {
        if (asked === undefined) return
        for (const one of waiting) if (one.match(asked) && --one.count === 0) one.done()
      })
    },
  )
  server.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const url = `https://localhost:${(server.address() as AddressInfo).port}`
  const api: KubernetesStandIn = {
    url,
    ca: root.certificate,
    objects: new Map(),
    requests: [],
    kubeconfig: ({ as = 'token', token = standInToken, server = url, ca = 'its own' } = {}) => {
      const pair = as === 'certificate' ? client : expired
      return stringify({
        apiVersion: 'v1',
        kind: 'Config',
        'current-context': 'pawl@cluster',
        clusters: [
          {
            name: 'cluster',
            cluster: {
              server,
              'certificate-authority-data': base64(ca === 'another' ? other.certificate : root.certificate),
            },
          },
        ],
        users: [
          {
            name: 'pawl',
            user:
              as === 'token'
                ? { token }
                : {
                    'client-certificate-data': base64(pair.certificate),
                    'client-key-data': base64(pair.key),
                  },
          },
        ],
        contexts: [{ name: 'pawl@cluster', context: { cluster: 'cluster', user: 'pawl' } }],
      })
    },
    add: (object) => {
      const { namespace, name } = object.metadata as { namespace?: string; name: string }
      const kind = `${String(object.kind).toLowerCase()}s`
      const within = namespace === undefined ? '' : `/namespaces/${namespace}`
      api.objects.set(`/api/v1${within}/${kind}/${name}`, {
        ...object,
        metadata: { uid: randomUUID(), ...(object.metadata as object) },
      })
    },
    addPod: (name, options = {}) => api.add(podOf(name, options)),
    answer: () => undefined,
    carryOut: (asked) => usual(api, asked),
    allows: () => true,
    evicted: (path) => api.objects.delete(path),
    asked: (match, count = 1) =>
      new Promise((done) => {
        const left = count - api.requests.filter(match).length
        if (left <= 0) done()
        else waiting.push({ match, count: left, done })
      }),
  }
  return api
}

function podOf(name: string, options: PodOptions): KubernetesObject {
  const { node = 'node1', namespace = 'default', owner = 'ReplicaSet', phase = 'Running' } = options
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      uid: options.uid ?? `uid-of-${name}`,
      annotations: options.annotations ?? {},
      ...(owner === null
        ? {}
        : { ownerReferences: [{ apiVersion: 'apps/v1', kind: owner, name: 'owner', controller: true }] }),
    },
    spec: { nodeName: node, volumes: options.volumes ?? [] },
    status: { phase },
  }
}

async function handle(
  api: KubernetesStandIn,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<AskedOfKubernetes | undefined> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of request) chunks.push(chunk as Buffer)
  } catch {
    return undefined // the client has gone
  }
  const { pathname, searchParams } = new URL(request.url ?? '/', 'https://stand-in')
  const text = Buffer.concat(chunks).toString('utf8')
  const asked: AskedOfKubernetes = {
    method: request.method ?? '',
    path: pathname,
    query: searchParams,
    body: text === '' ? undefined : (JSON.parse(text) as KubernetesObject),
    user: userOf(api, request),
  }
  api.requests.push(asked)
  const said = (await api.answer(asked)) ?? usual(api, asked)
  if (said === 'hang') return asked
  const body = typeof said.body === 'string' ? said.body : JSON.stringify(said.body ?? {})
  response.on('error', () => {}) // a client that stops reading is one of the cases
  response.writeHead(said.status, { 'content-type': 'application/json', ...said.headers }).end(body)
  return asked
}

/** By client certificate, by the account's token, or by a bootstrap token that is a Secret and has not expired. */
function userOf(api: KubernetesStandIn, request: IncomingMessage): string {
  const socket = request.socket as TLSSocket // its server is an HTTPS server
  if (socket.authorized) return String(socket.getPeerCertificate().subject.CN)
  const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1]
  if (token === undefined) return 'system:anonymous'
  if (token === standInToken) return 'system:serviceaccount:kube-system:pawl'
  const [id = '', secret] = token.split('.')
  const found = api.objects.get(`/api/v1/namespaces/kube-system/secrets/bootstrap-token-${id}`)
  const value = (key: string): string | undefined => {
    const clear = (found?.stringData as Record<string, string> | undefined)?.[key]
    const packed = (found?.data as Record<string, string> | undefined)?.[key]
    return clear ?? (packed === undefined ? undefined : Buffer.from(packed, 'base64').toString('utf8'))
  }
  const good =
    found?.type === 'bootstrap.kubernetes.io/token' &&
    value('token-secret') === secret &&
    value('usage-bootstrap-authentication') === 'true' &&
    Date.parse(value('expiration') ?? '9999-01-01T00:00:00Z') > Date.now()
  return good ? `system:bootstrap:${id}` : ''
}

function usual(api: KubernetesStandIn, asked: AskedOfKubernetes): KubernetesAnswer {
  const { method, path, user } = asked
  if (user === '') return status(401, 'Unauthorized', 'Unauthorized')
  // kubeadm opens cluster-info to who shows no credential, and to nobody else.
  const open =
    method === 'GET' && (path === '/version' || (user === 'system:anonymous' && path === clusterInfoPath))
  if (!open && (user === 'system:anonymous' || !api.allows(asked)))
    return status(403, 'Forbidden', `${path} is forbidden: User "${user}" cannot ${method} it`)
  if (path === '/version') return { status: 200, body: { major: '1', minor: '20', gitVersion: 'v1.20.0' } }
  if (path === '/api/v1') return { status: 200, body: resources }
  if (path === '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews') return review(api, asked)
  const eviction = /^(.+\/pods\/[^/]+)\/eviction$/.exec(path)?.[1]
  if (eviction !== undefined) return evict(api, asked, eviction)
  if (isCollection(path)) return method === 'POST' ? create(api, asked) : list(api, asked)
  return one(api, asked)
}

/** Of what there is, what somebody looks for. */
const resources: KubernetesObject = {
  kind: 'APIResourceList',
  groupVersion: 'v1',
  resources: [{ name: 'pods/eviction', namespaced: true, kind: 'Eviction', group: 'policy', version: 'v1' }],
}

function isCollection(path: string): boolean {
  return path === certificateRequestsPath || /^\/api\/v1(\/namespaces\/[^/]+)?\/[a-z]+$/.test(path)
}

function one(api: KubernetesStandIn, { method, path, body }: AskedOfKubernetes): KubernetesAnswer {
  const found = api.objects.get(path)
  if (found === undefined) return status(404, 'NotFound', `${path.split('/').at(-1)} not found`)
  if (method === 'DELETE') return remove(api, path, found, body)
  if (method === 'PATCH') api.objects.set(path, merged(found, body ?? {}))
  if (method === 'PUT') api.objects.set(path, body ?? {})
  return { status: 200, body: api.objects.get(path) ?? {} }
}

/** A removal by its options: on trial it says whose UID it would remove, and with a UID it removes no other. */
function remove(
  api: KubernetesStandIn,
  path: string,
  found: KubernetesObject,
  options: KubernetesObject = {},
): KubernetesAnswer {
  const { name, uid } = found.metadata as { name?: string; uid?: string }
  const wanted = (options.preconditions as { uid?: string } | undefined)?.uid
  if (wanted !== undefined && wanted !== uid)
    return status(
      409,
      'Conflict',
      `the UID in the precondition (${wanted}) does not match the UID in record (${uid})`,
    )
  if ((options.dryRun as string[] | undefined)?.[0] !== 'All') api.objects.delete(path)
  const details = { name, kind: path.split('/').at(-2), uid }
  return { status: 200, body: { kind: 'Status', apiVersion: 'v1', status: 'Success', details } }
}

function create(api: KubernetesStandIn, { path, body }: AskedOfKubernetes): KubernetesAnswer {
  const name = (body?.metadata as { name?: string } | undefined)?.name ?? ''
  const at = `${path}/${name}`
  if (api.objects.has(at)) return status(409, 'AlreadyExists', `"${name}" already exists`)
  const made = { ...body, metadata: { ...(body?.metadata as object | undefined), uid: randomUUID() } }
  api.objects.set(at, made)
  return { status: 201, body: made }
}

function list(api: KubernetesStandIn, { path, query }: AskedOfKubernetes): KubernetesAnswer {
  const kind = path.split('/').at(-1)
  const node = /^spec\.nodeName=(.+)$/.exec(query.get('fieldSelector') ?? '')?.[1]
  const items = [...api.objects].filter(
    ([at, object]) =>
      (at.startsWith(`${path}/`) || (path === `/api/v1/${kind}` && at.split('/').at(-2) === kind)) &&
      (node === undefined || (object.spec as { nodeName?: string } | undefined)?.nodeName === node),
  )
  const from = Number(query.get('continue') ?? '0')
  const until = from + Number(query.get('limit') || items.length)
  const metadata = until < items.length ? { continue: String(until) } : {}
  return {
    status: 200,
    body: { kind: 'List', metadata, items: items.slice(from, until).map(([, object]) => object) },
  }
}

function evict(api: KubernetesStandIn, { body }: AskedOfKubernetes, pod: string): KubernetesAnswer {
  const found = api.objects.get(pod)
  if (found === undefined) return status(404, 'NotFound', 'pod not found')
  const wanted = (body?.deleteOptions as { preconditions?: { uid?: string } } | undefined)?.preconditions?.uid
  if (wanted !== undefined && wanted !== (found.metadata as { uid?: string }).uid)
    return status(409, 'Conflict', 'the UID in the precondition does not match the UID in record')
  api.evicted(pod)
  return { status: 201, body: { kind: 'Status', apiVersion: 'v1', status: 'Success' } }
}

/** "May I": what `kubectl auth can-i` asks. */
function review(api: KubernetesStandIn, asked: AskedOfKubernetes): KubernetesAnswer {
  const wanted = (asked.body?.spec as { resourceAttributes?: Record<string, string> } | undefined)
    ?.resourceAttributes
  const { verb = '', resource = '', subresource, namespace, name } = wanted ?? {}
  const methods: Readonly<Record<string, string>> = { create: 'POST', delete: 'DELETE', patch: 'PATCH' }
  const within = namespace === undefined ? '' : `/namespaces/${namespace}`
  const below = subresource === undefined ? '' : `/${subresource}`
  const path = `/api/v1${within}/${resource}${name === undefined ? '' : `/${name}`}${below}`
  const allowed = api.allows({ ...asked, method: methods[verb] ?? 'GET', path })
  return { status: 201, body: { ...asked.body, status: { allowed } } }
}

/** RFC 7386. */
function merged(into: KubernetesObject, patch: KubernetesObject): KubernetesObject {
  const result = { ...into }
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key]
    else if (typeof value === 'object' && !Array.isArray(value))
      result[key] = merged((result[key] ?? {}) as KubernetesObject, value as KubernetesObject)
    else result[key] = value
  }
  return result
}

/** What kube-apiserver answers when it refuses. */
export function status(code: number, reason: string, message: string): KubernetesAnswer {
  return {
    status: code,
    body: { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason, message, code },
  }
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}
