import t, { type Test } from 'tap'
import { type Kubernetes, openKubernetes } from '../../src/kubernetes/client.ts'
import {
  type DrainPass,
  type DrainWishes,
  deleteNodeObject,
  drainPass,
  isUnschedulable,
  setUnschedulable,
} from '../../src/kubernetes/drain.ts'
import { readKubeconfig } from '../../src/kubernetes/kubeconfig.ts'
import { applyFile, kubeconfigOfAccount } from '../helpers/kubernetes-account.ts'
import { kubernetesAbsent, startKubernetes } from '../helpers/kubernetes-cluster.ts'
import { until } from '../helpers/until.ts'

/** Leaving a real Kubernetes. There is no kubelet: pods stay pending unless the test says otherwise, and the test ends them. */
const pods = '/api/v1/namespaces/default/pods'

interface PodWish {
  readonly owner?: string
  readonly volumes?: readonly object[]
  readonly annotations?: Readonly<Record<string, string>>
  readonly labels?: Readonly<Record<string, string>>
  /** How long it may take to end; none by default, then it is gone with its eviction. */
  readonly grace?: number
}

async function addPod(admin: Kubernetes, name: string, wish: PodWish = {}): Promise<void> {
  const { owner, volumes = [], annotations = {}, labels = {}, grace = 0 } = wish
  const controller = { apiVersion: 'apps/v1', kind: owner, name: 'o', uid: 'u', controller: true }
  await admin.request('POST', pods, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, annotations, labels, ownerReferences: owner === undefined ? [] : [controller] },
    spec: {
      ...{
        nodeName: 'n1',
        terminationGracePeriodSeconds: grace,
        automountServiceAccountToken: false,
        volumes,
      },
      containers: [{ name: 'c', image: 'none' }],
    },
  })
}

async function podNames(admin: Kubernetes): Promise<string[]> {
  const { items } = await admin.request('GET', pods)
  return (items as { metadata: { name: string } }[]).map(({ metadata }) => metadata.name)
}

async function runs(admin: Kubernetes, name: string): Promise<void> {
  await admin.request('PATCH', `${pods}/${name}/status`, {
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
  })
}

async function suite(t: Test): Promise<void> {
  const cluster = await startKubernetes(t)
  const { admin } = cluster
  const account = await applyFile(admin, 'leave-rbac.yaml')
  const kubeconfig = await kubeconfigOfAccount(cluster, account)
  const api = openKubernetes(readKubeconfig(kubeconfig), { clock: () => new Date() })
  const pass = (wishes: DrainWishes = {}): Promise<DrainPass> => drainPass(api, 'n1', wishes)
  await admin.request('POST', '/api/v1/nodes', {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'n1' },
    spec: {},
  })

  await t.test('nothing is scheduled to it any more, and then again', async (t) => {
    t.equal(await isUnschedulable(api, 'n1'), false)
    for (const wanted of [false, true, true]) {
      await setUnschedulable(api, 'n1', wanted)
      t.equal(await isUnschedulable(api, 'n1'), wanted)
    }
    const error: unknown = await isUnschedulable(api, 'n2').catch((error: unknown) => error)
    t.match(error, { fault: 'not-found' })
  })

  await t.test('pods that nothing makes again stay, with all others', async (t) => {
    await addPod(admin, 'alone')
    await addPod(admin, 'made-again', { owner: 'ReplicaSet' })
    t.match(await pass(), { kind: 'refused', message: /^pod default\/alone: no controller makes it again/ })
    t.same(await podNames(admin), ['alone', 'made-again'])
    t.match(await pass({ force: true }), { kind: 'draining', left: 2 })
    t.same(await pass(), { kind: 'drained' })
    t.same(await podNames(admin), [])
  })

  await t.test('data in memory is not lost unasked', async (t) => {
    await addPod(admin, 'holds', { owner: 'ReplicaSet', volumes: [{ name: 'v', emptyDir: {} }] })
    t.match(await pass(), { kind: 'refused', message: /^pod default\/holds: it has an emptyDir volume/ })
    t.match(await pass({ deleteEmptyDirData: true }), { kind: 'draining' })
    t.same(await pass(), { kind: 'drained' })
  })

  await t.test("a DaemonSet's pods stay", async (t) => {
    await addPod(admin, 'of-every-node', { owner: 'DaemonSet' })
    t.same(await pass(), { kind: 'drained' })
    await admin.request('DELETE', `${pods}/of-every-node`)
  })

  await t.test('a pod takes its time to end, and its node waits', async (t) => {
    await addPod(admin, 'slow', { owner: 'ReplicaSet', grace: 30 })
    await runs(admin, 'slow')
    t.match(await pass(), { kind: 'draining', left: 1 })
    t.match(await pass(), { kind: 'draining', left: 1, waitsFor: 'pod default/slow to end' })
    t.match(await admin.request('GET', `${pods}/slow`), { metadata: { deletionTimestamp: String } })
    // What its kubelet does when its containers have ended.
    await admin.request('DELETE', `${pods}/slow`, { gracePeriodSeconds: 0 })
    t.same(await pass(), { kind: 'drained' })
  })

  await t.test('a disruption budget keeps one until there is another', async (t) => {
    const budgets = '/apis/policy/v1beta1/namespaces/default/poddisruptionbudgets'
    await admin.request('POST', budgets, {
      apiVersion: 'policy/v1beta1',
      kind: 'PodDisruptionBudget',
      metadata: { name: 'one' },
      spec: { minAvailable: 1, selector: { matchLabels: { app: 'one' } } },
    })
    await addPod(admin, 'needed', { owner: 'ReplicaSet', labels: { app: 'one' } })
    await runs(admin, 'needed')
    const healthy = async (): Promise<unknown> =>
      ((await admin.request('GET', `${budgets}/one`)).status as { currentHealthy?: number }).currentHealthy
    await until(t, healthy, 1)
    t.match(await pass(), {
      kind: 'draining',
      left: 1,
      waitsFor: 'pod default/needed: its disruption budget does not let it go now',
    })
    t.same(await podNames(admin), ['needed'])
    await admin.request('DELETE', `${budgets}/one`)
    await until(t, async () => (await pass()).kind, 'drained')
  })

  await t.test('its object goes, once', async (t) => {
    t.equal(await deleteNodeObject(api, 'n1'), true)
    t.equal(await deleteNodeObject(api, 'n1'), false)
  })
}

const absent = kubernetesAbsent()
t.test('leaving a real Kubernetes', absent === undefined ? {} : { skip: absent }, suite)
