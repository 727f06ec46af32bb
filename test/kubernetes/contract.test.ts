import { request } from 'node:https'
import t, { type Test } from 'tap'
import { type Kubeconfig, readKubeconfig } from '../../src/kubernetes/kubeconfig.ts'
import {
  clusterInfoPath as clusterInfo,
  certificateRequestsPath as requests,
  startKubernetesApi,
} from '../helpers/kubernetes-api.ts'
import { kubernetesAbsent, startKubernetes } from '../helpers/kubernetes-cluster.ts'

/**
 * What we ask of a Kubernetes API, and what it answers: one table, asked of the stand-in and, where one is built, of the real one. So
 * the stand-in cannot say what no API server says.
 */
interface Asked {
  readonly what: string
  readonly method: string
  readonly path: string
  readonly body?: object | string
  /** Default: an administrator. */
  readonly as?: 'nobody' | { readonly token: string }
  readonly status: number
  /** `reason` of the Status that refuses. */
  readonly reason?: string
  /** What the answer says beside it. */
  readonly says?: object
}

const secrets = '/api/v1/namespaces/kube-system/secrets'
const pods = '/api/v1/namespaces/default/pods'
const reviews = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews'

const secret = (id: string, data: Readonly<Record<string, string>>): object => ({
  apiVersion: 'v1',
  kind: 'Secret',
  type: 'bootstrap.kubernetes.io/token',
  metadata: { name: `bootstrap-token-${id}`, namespace: 'kube-system' },
  data: Object.fromEntries(
    Object.entries({
      'token-id': id,
      'token-secret': '0123456789abcdef',
      'usage-bootstrap-authentication': 'true',
      ...data,
    }).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
  ),
})

const pod = (name: string): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default' },
  // No kubelet ends it: without a time of grace it is gone at once.
  spec: { nodeName: 'node1', terminationGracePeriodSeconds: 0, containers: [{ name: 'c', image: 'none' }] },
})

const eviction = (name: string, uid?: string): object => ({
  apiVersion: 'policy/v1beta1',
  kind: 'Eviction',
  metadata: { name, namespace: 'default' },
  ...(uid === undefined ? {} : { deleteOptions: { preconditions: { uid } } }),
})

const review = (verb: string): object => ({
  apiVersion: 'authorization.k8s.io/v1',
  kind: 'SelfSubjectAccessReview',
  spec: { resourceAttributes: { namespace: 'kube-system', verb, resource: 'secrets' } },
})

/** A kubelet's, of an EC key that nobody has. */
const certificateRequest: object = {
  apiVersion: 'certificates.k8s.io/v1',
  kind: 'CertificateSigningRequest',
  metadata: { name: 'node-csr-node1' },
  spec: {
    request: Buffer.from(
      `-----BEGIN CERTIFICATE REQUEST-----
MIHuMIGVAgEAMDMxFTATBgNVBAoMDHN5c3RlbTpub2RlczEaMBgGA1UEAwwRc3lz
dGVtOm5vZGU6bm9kZTEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARK7hgKrBh3
XkdlWZ15FRUW4Z7bRi92FTkDzz5YV6Wzmf/o4jvSnucRBT1bZv0K/34rwRf77woY
jTgYNt8LM1xhoAAwCgYIKoZIzj0EAwIDSAAwRQIhAP64VaMRw9TRoDy2z4JyBn5s
XV2iYrKz6//kBnGmkPVCAiAnXMWa8JneVEg2eGhV/h5XSas/kVNlE8QfmxQpXUpj
rw==
-----END CERTIFICATE REQUEST-----
`,
    ).toString('base64'),
    signerName: 'kubernetes.io/kube-apiserver-client-kubelet',
    usages: ['digital signature', 'key encipherment', 'client auth'],
  },
}

const may = (allowed: boolean): object => ({ status: { allowed } })
const bootstrap = { token: 'aaaaaa.0123456789abcdef' }
const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'node1' }, spec: {} }

const none = { as: 'nobody' } as const
const nodePath = '/api/v1/nodes/node1'
const own = `${secrets}/bootstrap-token-aaaaaa`
const stranger = { as: { token: 'another-token-than-it-knows' } } as const
const over = secret('bbbbbb', { expiration: '2026-01-01T00:00:00Z' })
const ofNodes = secret('aaaaaa', { 'auth-extra-groups': 'system:bootstrappers:kubeadm:default-node-token' })
const drained = (mark: boolean | null): object => ({ spec: { unschedulable: mark } })
const podsOf = (node: string): string => `/api/v1/pods?fieldSelector=spec.nodeName%3D${node}&limit=1`
const nobodysUid = '00000000-0000-0000-0000-000000000000'

const options = (of: object): object => ({ apiVersion: 'v1', kind: 'DeleteOptions', ...of })

/** What is asked, how, and the answer: its status, the reason of a refusal or what it says. An administrator asks unless it says who. */
type Row = readonly [
  what: string,
  request: `${'GET' | 'POST' | 'PATCH' | 'DELETE'} ${string}`,
  answer: number | `${number} ${string}`,
  more?: Pick<Asked, 'body' | 'as' | 'says'>,
]

const rows: readonly Row[] = [
  ['the version is open to all', 'GET /version', 200, none],
  ['cluster-info is too', `GET ${clusterInfo}`, 200, { ...none, says: { kind: 'ConfigMap' } }],
  ['a Secret is not', `GET ${own}`, '403 Forbidden', none],
  ['nor what one may do', `POST ${reviews}`, '403 Forbidden', { ...none, body: review('create') }],
  ['an unknown token', `GET ${secrets}`, '401 Unauthorized', stranger],
  ['for what is open to all too', 'GET /version', '401 Unauthorized', stranger],
  ['a bootstrap token before it is made', 'GET /version', '401 Unauthorized', { as: bootstrap }],

  ['a Secret is made', `POST ${secrets}`, 201, { body: ofNodes, says: { kind: 'Secret' } }],
  ['once', `POST ${secrets}`, '409 AlreadyExists', { body: ofNodes }],
  ['its token lets in', 'GET /version', 200, { as: bootstrap }],
  ['but cluster-info is for who has none', `GET ${clusterInfo}`, '403 Forbidden', { as: bootstrap }],
  [
    'not with another half',
    `GET ${clusterInfo}`,
    '401 Unauthorized',
    { as: { token: 'aaaaaa.0123456789abcdee' } },
  ],
  [
    'it asks what it may',
    `POST ${reviews}`,
    201,
    { as: bootstrap, body: review('create'), says: may(false) },
  ],
  ['and reads no Secret', `GET ${own}`, '403 Forbidden', { as: bootstrap }],
  [
    'nobody asks for a certificate',
    `POST ${requests}`,
    '403 Forbidden',
    { ...none, body: certificateRequest },
  ],
  ['the token does', `POST ${requests}`, 201, { as: bootstrap, body: certificateRequest }],
  ['once', `POST ${requests}`, '409 AlreadyExists', { as: bootstrap, body: certificateRequest }],
  [
    'a removal on trial tells the UID',
    `DELETE ${own}`,
    200,
    { body: options({ dryRun: ['All'] }), says: { status: 'Success', details: { uid: /^[0-9a-f-]{36}$/ } } },
  ],
  [
    'and removes nothing; one of another UID neither',
    `DELETE ${own}`,
    '409 Conflict',
    { body: options({ preconditions: { uid: nobodysUid } }) },
  ],
  ['a Secret goes', `DELETE ${own}`, 200, { says: { kind: 'Status', status: 'Success' } }],
  ['once', `DELETE ${own}`, '404 NotFound'],
  ['one that is over is made', `POST ${secrets}`, 201, { body: over }],
  [
    'and lets nobody in',
    `GET ${clusterInfo}`,
    '401 Unauthorized',
    { as: { token: 'bbbbbb.0123456789abcdef' } },
  ],
  ['an administrator may', `POST ${reviews}`, 201, { body: review('delete'), says: may(true) }],

  ['what there is', 'GET /api/v1', 200, { says: { kind: 'APIResourceList' } }],
  ['no such node', `GET ${nodePath}`, '404 NotFound'],
  ['nor to be marked', `PATCH ${nodePath}`, '404 NotFound', { body: drained(true) }],
  ['a node is made', 'POST /api/v1/nodes', 201, { body: node, says: { kind: 'Node' } }],
  ['and marked', `PATCH ${nodePath}`, 200, { body: drained(true), says: { spec: { unschedulable: true } } }],
  ['and unmarked', `PATCH ${nodePath}`, 200, { body: drained(null) }],
  ['a pod is made', `POST ${pods}`, 201, { body: pod('one'), says: { kind: 'Pod' } }],
  ['and another', `POST ${pods}`, 201, { body: pod('two') }],
  ['pods of a node', `GET ${podsOf('node1')}`, 200, { says: { items: [{ metadata: { name: 'one' } }] } }],
  ['and of another', `GET ${podsOf('node2')}`, 200, { says: { items: [] } }],
  ['one of that name', `POST ${pods}/one/eviction`, '409 Conflict', { body: eviction('one', nobodysUid) }],
  ['an eviction', `POST ${pods}/one/eviction`, 201, { body: eviction('one'), says: { status: 'Success' } }],
  ['of what is gone', `POST ${pods}/one/eviction`, '404 NotFound', { body: eviction('one') }],
  ['a pod is gone', `GET ${pods}/one`, '404 NotFound'],
  ['a node goes', `DELETE ${nodePath}`, 200, { says: { kind: 'Status', status: 'Success' } }],
  ['once', `DELETE ${nodePath}`, '404 NotFound'],
]

const table: readonly Asked[] = rows.map(([what, request, answer, more]) => {
  const [method = '', path = ''] = request.split(' ')
  const [status, reason] = String(answer).split(' ')
  return { what, method, path, status: Number(status), ...(reason === undefined ? {} : { reason }), ...more }
})

async function askAll(t: Test, kubeconfig: string): Promise<void> {
  const config = readKubeconfig(kubeconfig)
  for (const asked of table) {
    const { status, body } = await ask(config, asked)
    const { what, method, path, says = {} } = asked
    t.match(
      { status, ...body },
      {
        ...(status < 300 ? {} : { kind: 'Status', code: asked.status }),
        ...(asked.reason === undefined ? {} : { reason: asked.reason }),
        ...says,
      },
      `${what}: ${method} ${path}`,
    )
    t.equal(status, asked.status, `${what}: ${asked.status}`)
  }
}

function ask(config: Kubeconfig, asked: Asked): Promise<{ status: number; body: Record<string, unknown> }> {
  const { method, path, body, as } = asked
  const administrator = as === undefined
  return new Promise((resolve, reject) => {
    const sent = request({
      method,
      host: '127.0.0.1',
      port: config.server.port,
      path,
      ca: config.ca,
      agent: false,
      ...(administrator && config.certificate
        ? { cert: config.certificate.certificate, key: config.certificate.key }
        : {}),
      headers: {
        ...(body === undefined
          ? {}
          : {
              'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json',
              // Node frames no body of a DELETE by itself.
              'content-length': Buffer.byteLength(JSON.stringify(body)),
            }),
        ...(typeof as === 'object' ? { authorization: `Bearer ${as.token}` } : {}),
      },
    })
    sent.once('error', reject)
    sent.once('response', async (response) => {
      const chunks: Buffer[] = []
      for await (const chunk of response) chunks.push(chunk as Buffer)
      resolve({ status: response.statusCode ?? 0, body: JSON.parse(Buffer.concat(chunks).toString('utf8')) })
    })
    sent.end(body === undefined ? '' : JSON.stringify(body))
  })
}

t.test('the stand-in answers as the table says', async (t) => {
  const api = await startKubernetesApi(t)
  api.add({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace: 'kube-public', name: 'cluster-info' },
    data: {},
  })
  // Whoever came by a bootstrap token may not do what an administrator may.
  api.allows = ({ user, path }) => !user.startsWith('system:bootstrap:') || [reviews, requests].includes(path)
  await askAll(t, api.kubeconfig({ as: 'certificate' }))
})

const absent = kubernetesAbsent()
t.test('so does the real one', absent === undefined ? {} : { skip: absent }, async (t) => {
  const cluster = await startKubernetes(t)
  await askAll(t, cluster.adminKubeconfig)
})
