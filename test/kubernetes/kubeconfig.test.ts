import t from 'tap'
import { parse, stringify } from 'yaml'
import { isPawlError } from '../../src/errors.ts'
import { endedInWords, readKubeconfig } from '../../src/kubernetes/kubeconfig.ts'
import { standInToken, startKubernetesApi } from '../helpers/kubernetes-api.ts'

const api = await startKubernetesApi(t)

type Tree = { [key: string]: Tree & string & Tree[] }

/** The stand-in's kubeconfig with something changed. */
function changed(change: (all: Tree) => void, as: 'token' | 'certificate' = 'token'): string {
  const all = parse(api.kubeconfig({ as })) as Tree
  change(all)
  return stringify(all)
}

const cluster = (all: Tree): Record<string, unknown> => all.clusters?.[0]?.cluster ?? {}
const user = (all: Tree): Record<string, unknown> => all.users?.[0]?.user ?? {}
const inCluster = (key: string, value: unknown) =>
  changed((all) => {
    cluster(all)[key] = value
  })
const inUser = (key: string, value: unknown, as: 'token' | 'certificate' = 'token') =>
  changed((all) => {
    user(all)[key] = value
  }, as)
const atTop = (key: string, value: unknown) =>
  changed((all) => {
    ;(all as Record<string, unknown>)[key] = value
  })

const otherKey = (): unknown => {
  const other = parse(api.kubeconfig({ as: 'expired-certificate' })) as Tree
  return user(other)['client-key-data']
}
const inline = 'embed it with "kubectl config view --flatten --minify"'
const impersonation = 'is impersonation: use the credential of the account itself'
const basic = 'is basic authentication, which Kubernetes ended in 1.19'
const garbled = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'

const refusals: readonly (readonly [string, string])[] = [
  ['', 'is not a mapping'],
  ['[]', 'is not a mapping'],
  ['a: [', 'is not YAML: look at line 1'],
  ['a: 1\na: 2\n', 'is not YAML: look at line 2'],
  ['a: &a [1]\nb: *a\n', 'has YAML aliases, which are not read'],
  [`a: ${'x'.repeat(70_000)}`, 'is larger than 65536 bytes'],
  [atTop('kind', 'Secret'), 'is not "kind: Config" of "apiVersion: v1"'],
  [atTop('apiVersion', 'v2'), 'is not "kind: Config" of "apiVersion: v1"'],
  [atTop('current-context', ''), 'current-context is missing'],
  [atTop('current-context', 'elsewhere'), 'contexts has no entry of the name that is asked for'],
  [atTop('current-context', 7), 'current-context is not text'],
  [atTop('contexts', {}), 'contexts is not a list'],
  [atTop('clusters', []), 'clusters has no entry of the name that is asked for'],
  [atTop('users', [null, 1, 'pawl']), 'users has no entry of the name that is asked for'],
  [atTop('users', [{ name: 'pawl', user: 'x' }]), 'users[].user is not a mapping'],
  [
    changed((all) => {
      all.users?.push({ name: 'pawl', user: {} } as never)
    }),
    'users has two entries of one name',
  ],
  [inCluster('server', undefined), 'cluster.server is missing'],
  [inCluster('server', 'localhost:6443'), 'cluster.server is not an https:// URL'],
  [inCluster('server', 'http://localhost:6443'), 'cluster.server is not an https:// URL'],
  [inCluster('server', 'nowhere'), 'cluster.server is no URL'],
  [inCluster('server', 'https://u:p@localhost'), 'cluster.server has credentials in it'],
  [inCluster('server', 'https://localhost/?a'), 'cluster.server has a query or a fragment'],
  [inCluster('tls-server-name', 'a b'), 'cluster.tls-server-name is no host name'],
  [
    inCluster('certificate-authority', '/etc/ca.crt'),
    `cluster.certificate-authority names a file, which is not read: ${inline}`,
  ],
  [
    inCluster('insecure-skip-tls-verify', true),
    'cluster.insecure-skip-tls-verify would send credentials to whoever answers',
  ],
  [inCluster('proxy-url', 'http://proxy'), 'cluster.proxy-url is not used: the API is reached directly'],
  [
    inCluster('certificate-authority-data', undefined),
    "cluster.certificate-authority-data is missing: the CA must be named, the system's roots are not used",
  ],
  [inCluster('certificate-authority-data', '%%%'), 'cluster.certificate-authority-data is not base64'],
  [
    inCluster('certificate-authority-data', 'aGFsbG8='),
    'cluster.certificate-authority-data has no certificate in PEM, or more than 32',
  ],
  [
    inCluster('certificate-authority-data', Buffer.from(garbled).toString('base64')),
    'cluster.certificate-authority-data has a certificate that cannot be read',
  ],
  [inUser('token', undefined), 'user has neither token nor client-certificate-data and client-key-data'],
  [inUser('token', 'two\nlines'), 'user.token has characters that a header cannot carry'],
  [inUser('token', ['a']), 'user.token is not text'],
  [
    inUser('tokenFile', '/var/token'),
    'user.tokenFile names a file, which is not read: write the token itself',
  ],
  [
    inUser('client-certificate', '/a.crt'),
    `user.client-certificate names a file, which is not read: ${inline}`,
  ],
  [inUser('client-key', '/a.key'), `user.client-key names a file, which is not read: ${inline}`],
  [
    inUser('exec', { command: 'aws' }),
    'user.exec names a program, which is not run: use a token of a service account',
  ],
  [
    inUser('auth-provider', { name: 'gcp' }),
    'user.auth-provider names a provider, which is not asked: use a token of a service account',
  ],
  [inUser('username', 'admin'), `user.username ${basic}`],
  [inUser('password', 'admin'), `user.password ${basic}`],
  [inUser('as', 'admin'), `user.as ${impersonation}`],
  [inUser('as-uid', '1'), `user.as-uid ${impersonation}`],
  [inUser('as-groups', ['admins']), `user.as-groups ${impersonation}`],
  [inUser('as-user-extra', { a: ['b'] }), `user.as-user-extra ${impersonation}`],
  [
    inUser('client-key-data', undefined, 'certificate'),
    'user.client-key-data is missing beside client-certificate-data',
  ],
  [
    inUser('client-certificate-data', undefined, 'certificate'),
    'user.client-certificate-data is missing beside client-key-data',
  ],
  [
    inUser('client-key-data', otherKey(), 'certificate'),
    'user.client-key-data is not the key of its certificate',
  ],
  [
    inUser('client-key-data', 'aGFsbG8=', 'certificate'),
    'user.client-key-data is no private key in PEM, or one with a passphrase',
  ],
]

t.test('refuses in words what a server may not follow, and repeats nothing of it', async (t) => {
  for (const [text, said] of refusals) {
    try {
      readKubeconfig(text)
      t.fail(`was read, and should be refused: ${said}`)
    } catch (error) {
      if (!isPawlError(error, 'invalid')) throw error
      t.equal(error.message, `kubeconfig: ${said}`)
      t.notOk(JSON.stringify(error).includes(standInToken), 'without the token')
    }
  }
})

t.test('tells everything that is wrong at once', async (t) => {
  const text = changed((all) => {
    Object.assign(cluster(all), {
      server: 'http://localhost',
      'proxy-url': 'http://proxy',
      'insecure-skip-tls-verify': true,
      'certificate-authority-data': '%%%',
      'tls-server-name': 'a b',
    })
    Object.assign(user(all), { token: 'two\nlines', exec: { command: 'aws' }, username: 'admin' })
  })
  t.throws(() => readKubeconfig(text), {
    code: 'invalid',
    message: [
      'kubeconfig: cluster.insecure-skip-tls-verify would send credentials to whoever answers',
      'cluster.proxy-url is not used: the API is reached directly',
      'cluster.certificate-authority-data is not base64',
      'cluster.server is not an https:// URL',
      'cluster.tls-server-name is no host name',
      'user.exec names a program, which is not run: use a token of a service account',
      `user.username ${basic}`,
      'user.token has characters that a header cannot carry',
    ].join('; '),
  })
  const claims = Buffer.from('{"exp":1760000000}').toString('base64url')
  const over = parse(api.kubeconfig({ as: 'expired-certificate' })) as Tree
  user(over).token = `e30.${claims}.c2ln`
  t.match(
    endedInWords(readKubeconfig(stringify(over)), new Date()),
    /^the kubeconfig's client certificate ended at 20\S+, its token ended at 2025-10-09T08:53:20\.000Z$/,
  )
})

t.test('reads one with a token', async (t) => {
  const read = readKubeconfig(api.kubeconfig())
  t.equal(read.server.href, `${api.url}/`)
  t.equal(read.ca, api.ca)
  t.equal(read.token, standInToken)
  t.equal(read.certificate, undefined)
  t.equal(read.serverName, undefined)
  t.same(
    read.ends.map(({ part }) => part),
    ['CA certificate'],
  )
})

t.test('reads one with a client certificate, written as JSON, and another name for TLS', async (t) => {
  const all = parse(api.kubeconfig({ as: 'certificate' })) as Tree
  cluster(all)['tls-server-name'] = 'kubernetes.default'
  const read = readKubeconfig(JSON.stringify(all))
  t.equal(read.serverName, 'kubernetes.default')
  t.equal(read.token, undefined)
  t.match(read.certificate, { certificate: /BEGIN CERTIFICATE/, key: /BEGIN PRIVATE KEY/ })
})

t.test('knows when a credential has ended', async (t) => {
  const claims = Buffer.from('{"exp":1760000000}').toString('base64url')
  const cases: readonly (readonly [string, RegExp | undefined])[] = [
    [api.kubeconfig(), undefined],
    [api.kubeconfig({ as: 'certificate' }), undefined],
    [api.kubeconfig({ as: 'expired-certificate' }), /^the kubeconfig's client certificate ended at 20/],
    [
      api.kubeconfig({ token: `e30.${claims}.c2ln` }),
      /^the kubeconfig's token ended at 2025-10-09T08:53:20\.000Z$/,
    ],
    [api.kubeconfig({ token: 'e30.e30.c2ln' }), undefined],
    [api.kubeconfig({ token: 'not.base64json.x' }), undefined],
  ]
  for (const [text, expected] of cases) {
    const said = endedInWords(readKubeconfig(text), new Date())
    if (expected === undefined) t.equal(said, undefined)
    else t.match(said, expected)
  }
  t.match(
    endedInWords(readKubeconfig(api.kubeconfig()), new Date('2099-01-01T00:00:00Z')),
    /^the kubeconfig's CA certificate ended at 20/,
  )
})
