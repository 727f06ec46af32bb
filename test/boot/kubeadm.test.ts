import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Kubernetes, openKubernetes } from '../../src/kubernetes/client.ts'
import { isKubernetesError } from '../../src/kubernetes/faults.ts'
import { readKubeconfig } from '../../src/kubernetes/kubeconfig.ts'
import { applyFile, kubeconfigOfAccount } from '../helpers/kubernetes-account.ts'
import { certificateRequestsPath, clusterInfoPath, startKubernetesApi } from '../helpers/kubernetes-api.ts'
import { startKubernetes } from '../helpers/kubernetes-cluster.ts'
import { openClusterInfo, secretValue } from '../helpers/kubernetes-discovery.ts'
import { until } from '../helpers/until.ts'
import { ensureKubernetesImage, type ImageFiles, kubernetesImageAbsent } from './helpers/artifacts.ts'
import { withPrograms } from './helpers/filesystem.ts'
import { applyProfile, eventsOf, pawlLines, profile, type Site, startSite } from './helpers/site.ts'
import { debianPackages, ensureBootTools } from './helpers/tools.ts'

/** Machines that join a Kubernetes by kubeadm, each with a bootstrap token that was made for this boot. */
const site = await startSite()
t.teardown(() => site.stop())
const secretsPath = '/api/v1/namespaces/kube-system/secrets'
const standIn = join(import.meta.dirname, '../helpers/kubeadm-stand-in.sh')

t.test(
  'a machine finds the cluster by a token of this boot (kubeadm and the API are stand-ins)',
  async (t) => {
    const api = await startKubernetesApi(t)
    const authority = seenByMachines(new URL(api.url).port)
    openClusterInfo(api, authority)
    const filesystem = join(site.dataDir, '../kubeadm.squashfs')
    await withPrograms(site.artifacts.stage3.filesystem, filesystem, { 'usr/bin/kubeadm': standIn })
    await publish(site, { ...site.artifacts.stage3, filesystem })
    await applyProfile(site, joining(authority, api.kubeconfig()))

    const { console, session } = await bootToReady(t, site, 'worker', { timeoutSeconds: 700 })
    t.match(console, ' has umask 0022', 'what kubeadm writes for others than root they can read')
    t.match(console, /^\[discovery\] The cluster is the one of the CA hash, and knows the token\r?$/m)
    t.match(console, 'pawl: join: script done')

    const [made] = api.requests.filter(({ method, path }) => method === 'POST' && path === secretsPath)
    const secret = made?.body ?? {}
    const [id, half] = [secretValue(secret, 'token-id'), secretValue(secret, 'token-secret')]
    await t.test('its Secret was made for this node and this boot, with an end', async (t) => {
      t.equal(made?.user, 'system:serviceaccount:kube-system:pawl')
      t.equal(secretValue(secret, 'description'), `Pawl: node worker, boot session ${session}`)
      t.match(secret, { metadata: { annotations: { 'pawl/node': 'worker', 'pawl/session': session } } })
      const [event] = await eventsOf(site, '--node', 'worker', '--kind', 'credential-made')
      t.match(event?.detail, { kind: 'kubeadm', credential: id })
      t.equal(secretValue(secret, 'expiration'), event?.detail.expiresAt.replace(/\.\d+Z$/, 'Z'))
      const seconds = (Date.parse(event?.detail.expiresAt) - Date.parse(event?.at ?? '')) / 1000
      t.ok(seconds > 0 && seconds <= 300, `${seconds} s from when it was handed out`)
    })

    await t.test('the machine used it, and nothing else', async (t) => {
      const asked = api.requests.filter(({ user }) => user !== made?.user)
      t.same(
        asked.map(({ method, path, user }) => `${method} ${path} ${user}`),
        [
          `GET ${clusterInfoPath} system:anonymous`,
          `GET ${clusterInfoPath} system:anonymous`,
          `POST ${certificateRequestsPath} system:bootstrap:${id}`,
        ],
      )
    })

    await t.test('its success ended it', async (t) => {
      await api.asked(({ method, path }) => method === 'DELETE' && path.endsWith(`bootstrap-token-${id}`))
      const bootstrapped = kubernetesOf(api.kubeconfig({ token: `${id}.${half}` }))
      t.equal(await faultOf(bootstrapped), 'unauthorized', 'whoever comes with it is answered 401')
      const kinds = async (): Promise<string[]> =>
        (await eventsOf(site, '--node', 'worker')).map(({ kind }) => kind).slice(-4)
      const expected = ['credential-made', 'join-redeemed', 'session-ready', 'credential-removed']
      await until(t, kinds, expected)
    })

    await t.test('nobody is told it', (t) => isNowhere(t, site, console, half))
  },
)

const absent = kubernetesImageAbsent()
const skip = absent === undefined ? {} : { skip: absent }
t.test('a Debian machine joins a real Kubernetes: kubeadm, kubelet and API server 1.20', skip, async (t) => {
  ensureBootTools(undefined, debianPackages)
  const cluster = await startKubernetes(t, '10.0.2.2')
  const account = await applyFile(cluster.admin, 'join-role.yaml')
  const authority = seenByMachines(cluster.port)
  const image = await ensureKubernetesImage((line) => t.comment(line))
  await publish(site, image, '--min-memory', '1536')
  // An emulated machine on a slow one takes its time.
  const more = { ttlSeconds: 3600 }
  await applyProfile(site, joining(authority, await kubeconfigOfAccount(cluster, account), more))

  const { console } = await bootToReady(t, site, 'metal', { memoryMiB: 3072, timeoutSeconds: 1400 })
  t.match(console, 'This node has joined the cluster')
  const [event] = await eventsOf(site, '--node', 'metal', '--kind', 'credential-made')
  const id = event?.detail.credential

  const { status } = await cluster.admin.request('GET', '/api/v1/nodes/metal')
  const kernelVersion = JSON.parse(readFileSync(image.annotations, 'utf8'))['kernel.release']
  const nodeInfo = { kernelVersion, kubeletVersion: /^v1\.20\./, containerRuntimeVersion: /^containerd:/ }
  t.match(
    status,
    { nodeInfo, addresses: [{ address: '10.0.2.15' }, { address: 'metal' }] },
    'it is this machine',
  )
  const { items } = await cluster.admin.request('GET', certificateRequestsPath)
  t.match(
    items,
    [{ spec: { username: `system:bootstrap:${id}` }, status: { certificate: String } }],
    'its kubelet asked for its certificate with the token of this boot',
  )
  await until(t, () => faultOf(cluster.admin, `${secretsPath}/bootstrap-token-${id}`), 'not-found')
})

/** 10.0.2.2 is what machines under QEMU call this machine's loopback. */
function seenByMachines(port: number | string): string {
  return `10.0.2.2:${port}`
}

/** The profile of the boot tests, with a join by kubeadm. Its machines stay on. */
function joining(endpoint: string, kubeconfig: string, more: { readonly ttlSeconds?: number } = {}): string {
  const join = JSON.stringify({ kind: 'kubeadm', settings: { endpoint, kubeconfig, ...more } })
  return profile()
    .replace('pawl.after=poweroff ', '')
    .replace('pawl-stage3/stable', () => `kubeadm-stage3@${version}`)
    .replace(/join: .*/, () => `join: ${join}`)
}

let version = 0

async function publish(
  site: Site,
  files: ImageFiles & { readonly filesystem: string },
  ...more: string[]
): Promise<void> {
  version += 1
  const names = ['kernel', 'initramfs', 'filesystem'] as const
  const flags = names.flatMap((name) => [`--${name}`, files[name]])
  await site.pawl('image', 'publish', `kubeadm-stage3@${version}`, ...flags, ...more)
}

/** Boots a new node until it is ready; gives what it printed, and its session. */
async function bootToReady(
  t: Test,
  site: Site,
  name: string,
  options: { readonly memoryMiB?: number; readonly timeoutSeconds: number },
): Promise<{ console: string; session: string }> {
  const machine = await site.powerOn(name, await site.addNode(name), options)
  t.teardown(() => machine.powerOff())
  await machine.waitFor('pawl: ready', options.timeoutSeconds - 100)
  t.comment(pawlLines(machine))
  const { state, session } = await site.pawl('node', 'show', name)
  t.same([state, session.state], ['ready', 'ready'])
  const { stages } = await site.pawl('node', 'timeline', name)
  t.comment(stages.map((s: { stage: string; seconds: number }) => `${s.stage} ${s.seconds} s`).join(', '))
  return { console: machine.console(), session: session.id }
}

/** The half of a token that is secret is neither printed, nor logged, nor an event. */
async function isNowhere(t: Test, site: Site, console: string, half: string): Promise<void> {
  t.match(half, /^[a-z0-9]{16}$/)
  // A console breaks long lines.
  t.notOk(console.replace(/\s/g, '').includes(half), 'not on the console')
  t.notOk(site.log().includes(half), "not in the server's log")
  const told = [await site.pawl('event', 'list'), await site.pawl('node', 'timeline', 'worker')]
  t.notOk(JSON.stringify(told).includes(half), 'not in events and timeline')
}

function kubernetesOf(kubeconfig: string): Kubernetes {
  return openKubernetes(readKubeconfig(kubeconfig), { clock: () => new Date() })
}

async function faultOf(api: Kubernetes, path = '/version'): Promise<string> {
  try {
    await api.request('GET', path)
    return 'none'
  } catch (error) {
    if (isKubernetesError(error)) return error.fault
    throw error
  }
}
