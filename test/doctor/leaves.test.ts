import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { parseAllDocuments } from 'yaml'
import type { Finding } from '../../src/doctor/finding.ts'
import { leaves } from '../../src/doctor/leaves.ts'
import { examineProfile } from '../helpers/doctor.ts'
import { joiningProfile } from '../helpers/joining.ts'
import {
  type AskedOfKubernetes,
  type KubernetesStandIn,
  startKubernetesApi,
} from '../helpers/kubernetes-api.ts'

/** What the doctor says of a profile whose nodes leave a stand-in for a cluster. */
const look = (
  t: Test,
  api: KubernetesStandIn,
  leave: Readonly<Record<string, unknown>> = {},
): Promise<Finding[]> => {
  const profile = {
    ...joiningProfile(api),
    leave: { kind: 'kubernetes', kubeconfig: api.kubeconfig(), ...leave },
  }
  return examineProfile(t, profile, leaves)
}

/** What the role that we ship lets an account do, but for what is taken away. */
function role(...without: string[]): (asked: AskedOfKubernetes) => boolean {
  const file = new URL('../../deploy/kubernetes/leave-rbac.yaml', import.meta.url)
  const objects = parseAllDocuments(readFileSync(file, 'utf8')).map((document) => document.toJS())
  const { rules } = objects.find(({ kind }) => kind === 'ClusterRole')
  const may = new Set<string>()
  for (const { resources, verbs } of rules)
    for (const resource of resources) for (const verb of verbs) may.add(`${verb} ${resource}`)
  for (const one of without) may.delete(one)
  const verbs: Readonly<Record<string, string>> = { POST: 'create', PATCH: 'patch', DELETE: 'delete' }
  return ({ method, path }) => {
    if (path.endsWith('/selfsubjectaccessreviews')) return true
    const resource = path.replace('/api/v1/', '')
    // The stand-in asks of what is read whether it may be GET.
    const read = resource === 'pods' ? 'list' : 'get'
    return may.has(`${verbs[method] ?? read} ${resource}`)
  }
}

t.test(
  'each cluster that nodes leave is asked whether it would let them, and nothing is changed',
  async (t) => {
    const api = await startKubernetesApi(t)
    const table: [
      what: string,
      leave: Record<string, unknown>,
      allows: KubernetesStandIn['allows'],
      level: Finding['level'],
      found: RegExp,
    ][] = [
      ['all is well', {}, role(), 'ok', /^localhost:\d+ lets nodes be drained$/],
      ['by the kubeconfig of the join', { kubeconfig: 'join' }, role(), 'ok', /lets nodes be drained/],
      ['it need not delete', {}, role('delete nodes'), 'ok', /lets nodes be drained/],
      [
        'it is to delete',
        { deleteNode: true },
        role('delete nodes'),
        'fail',
        /^its account may not delete nodes$/,
      ],
      [
        'it may do nothing',
        {},
        role('get nodes', 'patch nodes', 'list pods', 'create pods/eviction'),
        'fail',
        /^its account may not get nodes, patch nodes, list pods and evict pods$/,
      ],
      ['it may read', {}, () => true, 'warn', /may read the Secrets of every namespace/],
      ['another CA', { kubeconfig: api.kubeconfig({ ca: 'another' }) }, role(), 'fail', /not of a CA/],
      ['another token', { kubeconfig: api.kubeconfig({ token: 'wrong' }) }, role(), 'fail', /\(401\)/],
      [
        'it has ended',
        { kubeconfig: api.kubeconfig({ as: 'expired-certificate' }) },
        role(),
        'fail',
        /^leave\.kubeconfig: the kubeconfig's client certificate ended at/,
      ],
      [
        'nothing listens',
        { kubeconfig: api.kubeconfig({ server: 'https://127.0.0.1:9' }) },
        role(),
        'fail',
        /nothing listens there/,
      ],
    ]
    for (const [what, leave, allows, level, found] of table) {
      api.allows = allows
      const [first, ...others] = await look(t, api, leave)
      t.match(first, { check: 'leave of demo', level, found }, what)
      t.same(others, [])
    }
    api.answer = () => 'hang'
    t.match(await look(t, api), [{ level: 'fail', found: /in time/ }], 'it hangs')
    t.notOk(
      api.requests.some(({ path }) => !path.endsWith('/selfsubjectaccessreviews')),
      'only what it may was asked',
    )
  },
)

t.test('a profile whose nodes leave by a webhook, or not at all, needs no cluster', async (t) => {
  const api = await startKubernetesApi(t)
  const webhook = {
    kind: 'webhook',
    url: 'https://hooks.example.test/leave',
    secret: `whsec_${Buffer.alloc(32, 1).toString('base64')}`,
  }
  t.same(await examineProfile(t, { ...joiningProfile(api), leave: webhook }, leaves), [])
  t.same(await examineProfile(t, joiningProfile(api), leaves), [])
  t.same(api.requests, [])
})
