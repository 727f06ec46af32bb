import { type AddressInfo, createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { type KubernetesOptions, openKubernetes } from '../../src/kubernetes/client.ts'
import { isKubernetesError, type KubernetesFault, kubernetesFaults } from '../../src/kubernetes/faults.ts'
import { readKubeconfig } from '../../src/kubernetes/kubeconfig.ts'
import {
  type KubernetesAnswer,
  type KubernetesStandIn,
  standInToken,
  startKubernetesApi,
  status,
} from '../helpers/kubernetes-api.ts'

const api = await startKubernetesApi(t)
const open = (text = api.kubeconfig(), options: Partial<KubernetesOptions> = {}) =>
  openKubernetes(readKubeconfig(text), { clock: () => new Date(), ...options })
const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'node1' }, spec: {} }

/** What answers on a port without being an API server. */
async function listening(t: Test, onConnection: (socket: Socket) => void): Promise<string> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    onConnection(socket)
  })
  server.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const sockets: Socket[] = []
  server.on('connection', (socket) => sockets.push(socket))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`
}

interface Case {
  readonly fault: KubernetesFault
  readonly message: string | RegExp
  readonly kubeconfig?: string
  readonly options?: Partial<KubernetesOptions>
  readonly answer?: KubernetesStandIn['answer']
}

const answers = (answer: KubernetesAnswer | 'hang') => ({ answer: () => answer })
const none = 'no answer from the Kubernetes API: '

t.test('tells every way to fail from the others, and no error holds the credential', async (t) => {
  const mute = await listening(t, () => {})
  const plain = await listening(t, (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n{}'))
  const cases: readonly Case[] = [
    {
      fault: 'unreachable',
      kubeconfig: api.kubeconfig({ server: 'https://127.0.0.1:1' }),
      message: `${none}nothing listens there`,
    },
    {
      fault: 'unreachable',
      kubeconfig: api.kubeconfig({ server: plain }),
      message: /^no answer from the Kubernetes API: /,
    },
    {
      fault: 'unreachable',
      options: { resolve: async () => [] },
      message: `${none}its name has no address`,
    },
    ...[
      'https://169.254.169.254',
      'https://[fd00:ec2::254]',
      'https://[::ffff:169.254.169.254]',
      'https://[fe80::1]',
      'https://168.63.129.16',
      'https://[::ffff:a83f:8110]',
      'https://[::ffff:a9fe:a9fe]',
      'https://[64:ff9b::a9fe:a9fe]',
    ].map(
      (server) =>
        ({
          fault: 'unreachable',
          kubeconfig: api.kubeconfig({ server }),
          message: 'the Kubernetes API is not asked at a link-local address',
        }) as const,
    ),
    {
      fault: 'unreachable',
      options: { resolve: async () => ['169.254.169.254'] },
      message: 'the Kubernetes API is not asked at a link-local address',
    },
    {
      fault: 'timeout',
      kubeconfig: api.kubeconfig({ server: mute }),
      options: { connectMilliseconds: 50 },
      message: `${none}no answer in time`,
    },
    {
      fault: 'timeout',
      ...answers('hang'),
      options: { answerMilliseconds: 50 },
      message: 'no answer from the Kubernetes API in time',
    },
    {
      fault: 'timeout',
      options: { answerMilliseconds: 50, resolve: () => new Promise(() => {}) },
      message: 'no answer from the Kubernetes API in time',
    },
    {
      fault: 'wrong-ca',
      kubeconfig: api.kubeconfig({ ca: 'another' }),
      message: `${none}its certificate is not of a CA that is trusted (certificate-authority-data of the kubeconfig)`,
    },
    {
      fault: 'wrong-name',
      kubeconfig: api.kubeconfig({ server: api.url.replace('localhost', 'api.example.test') }),
      options: { resolve: async () => ['127.0.0.1'] },
      message: `${none}its certificate is for another name`,
    },
    {
      fault: 'expired-certificate',
      kubeconfig: api.kubeconfig({ as: 'expired-certificate' }),
      message: /^the kubeconfig's client certificate ended at /,
    },
    {
      fault: 'unauthorized',
      kubeconfig: api.kubeconfig({ token: 'another-token-than-it-knows' }),
      message: 'the Kubernetes API does not know the credential of the kubeconfig (401): Unauthorized',
    },
    {
      fault: 'forbidden',
      ...answers(status(403, 'Forbidden', 'nodes "node1" is forbidden')),
      message:
        'the Kubernetes API forbids this to the account of the kubeconfig (403): nodes "node1" is forbidden',
    },
    {
      fault: 'not-found',
      ...answers(status(404, 'NotFound', 'nodes "node1" not found')),
      message: 'the Kubernetes API answered 404: nodes "node1" not found',
    },
    { fault: 'conflict', ...answers({ status: 409 }), message: 'the Kubernetes API answered 409' },
    {
      fault: 'too-many-requests',
      ...answers({ ...status(429, 'TooManyRequests', 'budget'), headers: { 'retry-after': '7' } }),
      message: 'the Kubernetes API answered 429: budget',
    },
    {
      fault: 'refused',
      ...answers({ status: 422, body: 'no JSON' }),
      message: 'the Kubernetes API answered 422',
    },
    { fault: 'failing', ...answers({ status: 503, body: '[]' }), message: 'the Kubernetes API answered 503' },
    {
      fault: 'bad-answer',
      ...answers({ status: 302, headers: { location: 'https://example.com/' } }),
      message: 'the Kubernetes API answered 302, which is not followed',
    },
    ...['', 'null', '[]', '"text"', '<html>'].map(
      (body) =>
        ({
          fault: 'bad-answer',
          ...answers({ status: 200, body }),
          message: 'what answers is not a Kubernetes API: its answer is not a JSON object',
        }) as const,
    ),
    {
      fault: 'bad-answer',
      ...answers({ status: 200, body: `{"a":"${'x'.repeat(2000)}"}` }),
      options: { maxAnswerBytes: 1000 },
      message: 'the Kubernetes API answered more than 1000 bytes',
    },
    {
      fault: 'refused',
      ...answers(status(400, 'BadRequest', `you said Bearer ${standInToken}`)),
      message: 'the Kubernetes API answered 400',
    },
    {
      fault: 'refused',
      ...answers(status(400, 'BadRequest', `two\nlines \u001b[31mred ${'x'.repeat(5000)}`)),
      message: /^the Kubernetes API answered 400: two lines red x{186}$/,
    },
  ]
  for (const { fault, message, kubeconfig, options, answer } of cases) {
    api.answer = answer ?? (() => undefined)
    try {
      await open(kubeconfig, options).request('GET', '/api/v1/nodes/node1')
      t.fail(`answered, and should fail: ${fault}`)
    } catch (error) {
      if (!isKubernetesError(error)) throw error
      t.equal(error.fault, fault, fault)
      t.match(error.message, message)
      t.notOk(`${error.message} ${JSON.stringify(error)}`.includes(standInToken), 'without the token')
    }
  }
  api.answer = () => undefined
  t.same(
    new Set(cases.map(({ fault }) => fault)),
    new Set(Object.keys(kubernetesFaults)),
    'every fault is among them',
  )
})

t.test('an answer does not bring back what a Secret said', async (t) => {
  for (const part of ['data', 'stringData']) {
    api.answer = ({ body }) => status(422, 'Invalid', `invalid: ${JSON.stringify(body)}`)
    const body = { [part]: { 'token-secret': '0123456789abcdef' } }
    await t.rejects(open().request('POST', '/api/v1/namespaces/kube-system/secrets', body), {
      message: 'the Kubernetes API answered 422',
    })
  }
  api.answer = () => undefined
})

t.test('nor what that is when it is decoded, nor the token, in any form', async (t) => {
  const value = 'p"q\\r/s+0123456789'
  const token = 'header0.claims0.signature0'
  const body = {
    metadata: { name: 'bootstrap-token-abcdef' },
    data: {
      'token-id': Buffer.from('abcdef').toString('base64'),
      'token-secret': Buffer.from(value).toString('base64'),
      'usage-bootstrap-signing': Buffer.from('true').toString('base64'),
    },
  }
  const forms = [value, token].flatMap((text) => [
    text,
    JSON.stringify({ text }),
    encodeURIComponent(text),
    Buffer.from(text).toString('base64'),
    Buffer.from(text).toString('base64url'),
    Buffer.from(text).toString('hex'),
  ])
  const ask = () =>
    open(api.kubeconfig({ token })).request('POST', '/api/v1/namespaces/kube-system/secrets', body)
  for (const form of [...forms, 'signature0']) {
    api.answer = () => status(422, 'Invalid', `admission says no to ${form} here`)
    await t.rejects(ask(), { message: /^the Kubernetes API answered 422$/ }, form)
  }
  for (const said of ['secrets "bootstrap-token-abcdef" is not true', 'abcdef']) {
    api.answer = () => status(422, 'Invalid', said)
    await t.rejects(ask(), { message: `the Kubernetes API answered 422: ${said}` }, 'the name is no secret')
  }
  api.answer = () => undefined
})

t.test('says when to ask again', async (t) => {
  api.answer = () => ({ status: 429, headers: { 'retry-after': '7' } })
  const error: unknown = await open()
    .request('GET', '/version')
    .catch((error: unknown) => error)
  t.match(error, { fault: 'too-many-requests', status: 429, retryAfterSeconds: 7 })
  api.answer = () => undefined
})

t.test('asks by token and by client certificate', async (t) => {
  api.objects.clear()
  api.add(node)
  api.requests.length = 0
  for (const as of ['token', 'certificate'] as const) {
    const client = open(api.kubeconfig({ as }))
    t.match(await client.request('GET', '/api/v1/nodes/node1'), { metadata: { name: 'node1' } })
    const patched = await client.request('PATCH', '/api/v1/nodes/node1', { spec: { unschedulable: true } })
    t.match(patched, { spec: { unschedulable: true } })
  }
  t.same(
    api.requests.map(({ method, user }) => `${method} ${user}`),
    [
      'GET system:serviceaccount:kube-system:pawl',
      'PATCH system:serviceaccount:kube-system:pawl',
      'GET pawl',
      'PATCH pawl',
    ],
  )
})

t.test('asks below the path of the server, where there is one', async (t) => {
  api.answer = () => ({ status: 200, body: {} })
  api.requests.length = 0
  await open(api.kubeconfig({ server: `${api.url}/k8s/clusters/c-1/` })).request('GET', '/version?a=1')
  t.match(api.requests, [{ path: '/k8s/clusters/c-1/version' }])
  api.answer = () => undefined
})
