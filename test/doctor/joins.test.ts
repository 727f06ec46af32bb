import { X509Certificate } from 'node:crypto'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import type { Finding } from '../../src/doctor/finding.ts'
import { joins } from '../../src/doctor/joins.ts'
import { examineProfile } from '../helpers/doctor.ts'
import { joiningProfile } from '../helpers/joining.ts'
import { type KubernetesStandIn, startKubernetesApi } from '../helpers/kubernetes-api.ts'

/** What the doctor says of a profile whose boots join a stand-in for a cluster. */
const look = (
  t: Test,
  api: KubernetesStandIn,
  settings: Readonly<Record<string, unknown>>,
  now?: Date,
): Promise<Finding[]> => examineProfile(t, joiningProfile(api, settings), joins, now)

t.test('each cluster is asked whether it would make and delete a token, and nothing is made', async (t) => {
  const api = await startKubernetesApi(t)
  const narrow = ({ method }: { method: string }): boolean => method === 'POST' || method === 'DELETE'
  const table: [
    what: string,
    settings: Record<string, unknown>,
    prepare: () => void,
    level: Finding['level'],
    found: RegExp,
  ][] = [
    ['all is well', {}, () => {}, 'ok', /^localhost:\d+ makes and deletes bootstrap tokens/],
    [
      'it may not delete',
      {},
      () => {
        api.allows = ({ method }) => method === 'POST'
      },
      'fail',
      /may not delete Secrets in kube-system/,
    ],
    [
      'it may read',
      {},
      () => {
        api.allows = () => true
      },
      'warn',
      /may read the Secrets/,
    ],
    ['another CA', { kubeconfig: api.kubeconfig({ ca: 'another' }) }, () => {}, 'fail', /not of a CA/],
    ['another token', { kubeconfig: api.kubeconfig({ token: 'wrong' }) }, () => {}, 'fail', /\(401\)/],
    [
      'it has ended',
      { kubeconfig: api.kubeconfig({ as: 'expired-certificate' }) },
      () => {},
      'fail',
      /^kubeconfig has a client certificate that ended at/,
    ],
    [
      'nothing listens',
      { kubeconfig: api.kubeconfig({ server: 'https://127.0.0.1:9' }) },
      () => {},
      'fail',
      /nothing listens there/,
    ],
    [
      'it hangs',
      {},
      () => {
        api.answer = () => 'hang'
      },
      'fail',
      /in time/,
    ],
  ]
  for (const [what, settings, prepare, level, found] of table) {
    api.allows = narrow
    api.answer = () => undefined
    prepare()
    const [first] = await look(t, api, settings)
    t.match(first, { check: 'join of demo, boot', level, found }, what)
  }
  t.same([...api.objects.keys()], [])
  t.notOk(
    api.requests.some(({ path }) => path.includes('/secrets')),
    'no Secret was asked for',
  )
})

t.test('a kubeconfig that ends soon is told of, and one token for all needs no cluster', async (t) => {
  const api = await startKubernetesApi(t)
  api.allows = ({ method }) => method !== 'GET'
  const settings = { kubeconfig: api.kubeconfig({ as: 'certificate' }) }
  const { users } = parse(settings.kubeconfig)
  const { validTo } = new X509Certificate(Buffer.from(users[0].user['client-certificate-data'], 'base64'))
  const soon = new Date(Date.parse(validTo) - 5.5 * 86_400_000)
  t.match(await look(t, api, settings, soon), [
    { level: 'warn', found: 'the client certificate of its kubeconfig ends in 5 days' },
  ])
  const token = {
    kubeconfig: undefined,
    token: 'abcdef.0123456789abcdef',
    caCertHash: `sha256:${'0'.repeat(64)}`,
  }
  const plain = JSON.parse(JSON.stringify(joiningProfile(api, token))).boot.join.settings
  api.requests.length = 0
  t.same(await look(t, api, { ...plain, kubeconfig: undefined }), [])
  t.same(api.requests, [])
})
