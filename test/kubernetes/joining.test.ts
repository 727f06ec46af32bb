import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { By } from '../../src/fleet/change.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import type { Credential } from '../../src/joining/broker.ts'
import { hashesOf, kubeadmBroker } from '../../src/joining/kubeadm.ts'
import { type Kubernetes, openKubernetes } from '../../src/kubernetes/client.ts'
import { isKubernetesError, type KubernetesFault } from '../../src/kubernetes/faults.ts'
import { readKubeconfig } from '../../src/kubernetes/kubeconfig.ts'
import type { Templates } from '../../src/templates/load.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { joiningOf } from '../helpers/joining.ts'
import { applyFile, kubeconfigOfAccount } from '../helpers/kubernetes-account.ts'
import { type KubernetesCluster, kubernetesAbsent, startKubernetes } from '../helpers/kubernetes-cluster.ts'
import {
  asNode,
  configurationIn,
  preflight,
  preflightWith,
  signedBy,
  tlsBootstrap,
} from '../helpers/kubernetes-node.ts'
import { askStage, boot, machineOf, report } from '../helpers/machine.ts'
import {
  forEachDatabase,
  type OpenWorld,
  plainTemplates,
  servedTemplates,
  worldBegins,
} from '../helpers/world.ts'

/** Joining against a real Kubernetes: what a broker makes there, who may, and how long it lasts. */
const clock = (): Date => new Date()
const broker = kubeadmBroker({ clock, timeoutMilliseconds: 10_000 })
const secrets = '/api/v1/namespaces/kube-system/secrets'

function credential(lifetimeSeconds = 300): Credential {
  const made = broker.makeUp((size) => randomBytes(size))
  const expiresAt = new Date(Date.now() + lifetimeSeconds * 1000)
  return { ...made, expiresAt, node: 'n1.example.com', session: '-4yoL0Yv0T1Hb1q', again: false }
}

const settingsOf = (cluster: KubernetesCluster, kubeconfig: string) => ({
  endpoint: `127.0.0.1:${cluster.port}`,
  kubeconfig,
})

async function faultOf(asked: Promise<unknown>): Promise<KubernetesFault | 'none'> {
  try {
    await asked
    return 'none'
  } catch (error) {
    if (isKubernetesError(error)) return error.fault
    throw error
  }
}

/** Milliseconds until the API does not take the token any more. */
async function acceptedFor(node: Kubernetes, since: number): Promise<number> {
  while ((await faultOf(node.request('GET', '/version'))) === 'none') await pause(50)
  return Math.round(performance.now() - since)
}

async function suite(t: Test): Promise<void> {
  const cluster = await startKubernetes(t)
  const accountPath = await applyFile(cluster.admin, 'join-role.yaml')
  const kubeconfig = await kubeconfigOfAccount(cluster, accountPath)
  const settings = settingsOf(cluster, kubeconfig)
  const account = openKubernetes(readKubeconfig(kubeconfig), { clock })

  await t.test('the role that we ship does what a join needs, and nothing else', async (t) => {
    const made = credential()
    t.equal(await broker.make(made, settings), 'made')
    const own = `${secrets}/bootstrap-token-${made.handle}`
    const refused: readonly (readonly [Parameters<Kubernetes['request']>[0], string, object?])[] = [
      ['GET', own],
      ['GET', secrets],
      ['PATCH', own, { data: {} }],
      ['POST', '/api/v1/namespaces/default/secrets', { metadata: { name: 's' } }],
      ['GET', '/api/v1/namespaces/kube-system/configmaps'],
      ['GET', '/api/v1/nodes'],
      ['GET', '/api/v1/pods'],
      ['POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', { metadata: { name: 's' } }],
      ['POST', `${accountPath}/token`, {}],
    ]
    for (const [method, path, body] of refused)
      t.equal(await faultOf(account.request(method, path, body)), 'forbidden', `${method} ${path}`)
    await broker.remove(made.handle, settings)
    t.equal(await faultOf(cluster.admin.request('GET', own)), 'not-found', 'it is gone')
    await broker.remove(made.handle, settings)
    t.pass('one that is gone is removed')
  })

  await t.test('pawl doctor tells a good account from a mighty one and a powerless one', async (t) => {
    const words = async (text: string) =>
      (await broker.check(settingsOf(cluster, text), clock())).map(({ level, found }) => `${level}: ${found}`)
    t.match(await words(kubeconfig), [/^ok: /])
    t.match(await words(cluster.adminKubeconfig), [/^warn: its account may read the Secrets of kube-system/])
    const powerless = await cluster.kubeconfigOf({ name: 'nobody-in-particular' })
    t.match(await words(powerless), [/^fail: its account may not create and delete Secrets/])
  })

  await t.test(
    'what is made is a bootstrap token that its node is let in with, and signs cluster-info',
    async (t) => {
      const made = credential()
      t.equal(await broker.make(made, settings), 'made')
      t.equal(await broker.make(made, settings), 'taken', 'another cannot have its name')
      t.equal(
        await broker.make({ ...made, again: true }, settings),
        'made',
        'but the same one, made again, can',
      )
      const secret = await cluster.admin.request('GET', `${secrets}/bootstrap-token-${made.handle}`)
      const { description = '' } = secret.data as Record<string, string>
      t.equal(
        Buffer.from(description, 'base64').toString('utf8'),
        'Pawl: node n1.example.com, boot session -4yoL0Yv0T1Hb1q',
      )
      t.match(secret, { type: 'bootstrap.kubernetes.io/token', metadata: { namespace: 'kube-system' } })
      await signedBy(cluster, made.handle)
      t.pass('cluster-info is signed with it')
      await tlsBootstrap(t, cluster, asNode(cluster, made))
      await broker.remove(made.handle, settings)
    },
  )

  await t.test("kubeadm's own discovery takes it, and not with the hash of another CA", async (t) => {
    const made = credential()
    await broker.make(made, settings)
    await signedBy(cluster, made.handle)
    const [hash = ''] = hashesOf({ ca: cluster.ca })
    t.match(await preflight(t, cluster, made, hash), /Reading configuration from the cluster/)
    const other = hash.replace(/.{8}$/, '00000000')
    await t.rejects(preflight(t, cluster, made, other), /none of the public keys/)
    await broker.remove(made.handle, settings)
  })

  await t.test('how long a token is taken', async (t) => {
    const unused = credential()
    await broker.make(unused, settings)
    await broker.remove(unused.handle, settings)
    const never = await acceptedFor(asNode(cluster, unused), performance.now())
    t.comment(`deleted before it was used: ${never} ms`)

    const used = credential()
    await broker.make(used, settings)
    const node = asNode(cluster, used)
    while ((await faultOf(node.request('GET', '/version'))) !== 'none') await pause(20)
    const since = performance.now()
    await broker.remove(used.handle, settings)
    const after = await acceptedFor(node, since)
    t.comment(`deleted just after its first use: ${after} ms`)

    const short = credential(6)
    await broker.make(short, settings)
    const late = asNode(cluster, short)
    while ((await faultOf(late.request('GET', '/version'))) !== 'none') await pause(20)
    const left = short.expiresAt.getTime() - Date.now()
    const expired = (await acceptedFor(late, performance.now())) - left
    t.comment(`its time over, used until then: ${expired} ms later`)
    const gone = `${secrets}/bootstrap-token-${short.handle}`
    const before = performance.now()
    while ((await faultOf(cluster.admin.request('GET', gone))) === 'none') await pause(50)
    t.comment(
      `its Secret was removed by the token cleaner: ${Math.round(performance.now() - before)} ms later`,
    )
    t.pass('each has its end')
  })

  await t.test('what is wrong with a cluster is told apart', async (t) => {
    const fault = async (text: string) => {
      const short = kubeadmBroker({ clock, timeoutMilliseconds: 1000 })
      return short.make(credential(), settingsOf(cluster, text)).then(
        () => 'none',
        (error: { fault?: string }) => error.fault,
      )
    }
    t.equal(await fault(await cluster.kubeconfigOf({ name: 'nobody-in-particular' })), 'forbidden')
    t.equal(await fault(cluster.kubeconfigFor({ token: 'a-token-of-nobody' })), 'unauthorized')
    const frontProxy = readFileSync(join(cluster.folder, 'pki/front-proxy-ca.crt')).toString('base64')
    const own = Buffer.from(cluster.ca).toString('base64')
    t.equal(await fault(kubeconfig.replace(own, frontProxy)), 'wrong-ca')
    t.equal(await fault(kubeconfig.replace('127.0.0.1', 'localhost')), 'wrong-name')
    const expired = await cluster.kubeconfigOf({ name: 'kubernetes-admin', group: 'system:masters', days: 0 })
    t.equal(await fault(expired), 'expired-certificate')
    cluster.freeze()
    t.equal(await fault(kubeconfig), 'timeout')
    cluster.thaw()
  })

  await forEachDatabase(t, async (t, openWorld) => {
    await t.test('a boot gets a token of its own, and its success ends it', (t) =>
      boots(t, openWorld, cluster, kubeconfig),
    )
  })
}

async function boots(
  t: Test,
  openWorld: OpenWorld,
  cluster: KubernetesCluster,
  kubeconfig: string,
): Promise<void> {
  const errors: unknown[] = []
  const joining = joiningOf({ timeoutSeconds: 2, errors })
  const templates: Templates = {
    render: (name, values) =>
      (name.startsWith('join-') ? servedTemplates() : plainTemplates).render(name, values),
  }
  const world = await openWorld({ joining, templates })
  // The cluster's clock is not moved by hand.
  world.clock.advance((Date.now() - worldBegins.getTime()) / 1000)
  const secret = await storeDemoFleet(world)
  const by: By = { actor: 'operator:test', source: null, role: 'admin' }
  await applyProfile(world.context, by, 'demo', {
    name: 'demo',
    evidence: ['secret'],
    boot: {
      stage2: 'small@1',
      stage3: 'full@1',
      join: { kind: 'kubeadm', settings: { endpoint: `127.0.0.1:${cluster.port}`, kubeconfig } },
    },
    acceptUnsigned: true,
  })
  const machine = machineOf(secret)
  const learnt = await boot(world, machine, 'stage3')
  const join = async (): Promise<string> =>
    (await askStage(world, machine, 'join', learnt.join, 'a'.repeat(22))).text

  cluster.freeze()
  await t.rejects(join(), { code: 'join-unavailable' }, 'an API that hangs keeps the node waiting')
  cluster.thaw()
  const answer = await join()
  t.equal(await join(), answer, 'the same answer under the same key')
  const { script } = JSON.parse(answer) as { script: string }
  const [, handle = '', half = ''] = /token: "([a-z0-9]{6})\.([a-z0-9]{16})"/.exec(script) ?? []
  const token = { handle, secret: half }
  await signedBy(cluster, handle)
  const said = await preflightWith(t, cluster, configurationIn(script))
  t.match(said, /Reading configuration from the cluster/, 'kubeadm finds the cluster by what the script says')
  const node = asNode(cluster, token)
  t.equal(await faultOf(node.request('GET', '/version')), 'none')

  await report(world, machine, learnt.report, 'success')
  const since = performance.now()
  await joining.settled()
  t.equal(
    await faultOf(cluster.admin.request('GET', `${secrets}/bootstrap-token-${handle}`)),
    'not-found',
    'the report of success removes it',
  )
  t.comment(`its Secret was gone ${Math.round(performance.now() - since)} ms after the report of success`)
  t.comment(`and it was taken until ${await acceptedFor(node, since)} ms after`)
  t.same(errors, [])
}

const absent = kubernetesAbsent()
const skip = absent === undefined ? {} : { skip: absent }
t.test('joining a real Kubernetes', skip, suite)
