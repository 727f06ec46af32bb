import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { hashesOf } from '../../src/joining/kubeadm.ts'
import { certificateRequestsPath, startKubernetesApi } from '../helpers/kubernetes-api.ts'
import { kubernetesAbsent, startKubernetes } from '../helpers/kubernetes-cluster.ts'
import { openClusterInfo } from '../helpers/kubernetes-discovery.ts'

/**
 * The stand-in for kubeadm that machines in boot tests have, tried at the stand-in of the API and, where one is built, at the real one: it
 * finds a cluster by what a join script gives it, and refuses what kubeadm refuses.
 */
const kubeadm = join(import.meta.dirname, '../helpers/kubeadm-stand-in.sh')
const token = 'abcdef.0123456789abcdef'
const secretsPath = '/api/v1/namespaces/kube-system/secrets'

/** A token that signs cluster-info, and may ask for a certificate. */
const secret = {
  apiVersion: 'v1',
  kind: 'Secret',
  type: 'bootstrap.kubernetes.io/token',
  metadata: { name: 'bootstrap-token-abcdef', namespace: 'kube-system' },
  data: Object.fromEntries(
    Object.entries({
      'token-id': 'abcdef',
      'token-secret': '0123456789abcdef',
      'usage-bootstrap-authentication': 'true',
      'usage-bootstrap-signing': 'true',
      'auth-extra-groups': 'system:bootstrappers:kubeadm:default-node-token',
    }).map(([name, value]) => [name, Buffer.from(value).toString('base64')]),
  ),
}

interface Given {
  readonly authority: string
  readonly hash: string
  readonly token?: string
  /** How long it waits for a signature. */
  readonly seconds?: number
}

/** What it said; throws with it when it refuses. */
async function runStandIn(t: Test, { authority, hash, seconds = 60, ...given }: Given): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-discovery-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'join.yaml')
  writeFileSync(
    file,
    `apiVersion: kubeadm.k8s.io/v1beta2
kind: JoinConfiguration
discovery:
  timeout: ${seconds}s
  bootstrapToken:
    apiServerEndpoint: "${authority}"
    token: "${given.token ?? token}"
    caCertHashes:
      - "${hash}"
nodeRegistration:
  name: "n1.example.com"
`,
  )
  const { stdout, stderr } = await promisify(execFile)(kubeadm, ['join', '--config', file])
  return stdout + stderr
}

async function findsAndRefuses(t: Test, authority: string, ca: string): Promise<void> {
  const [hash = ''] = hashesOf({ ca })
  const said = await runStandIn(t, { authority, hash })
  t.match(said, /^\[discovery\] The cluster is the one of the CA hash, and knows the token$/m)
  t.match(said, /^\[kubelet-start\] The certificate of the kubelet is asked for/m)
  const other = hash.replace(/.{8}$/, '00000000')
  const wrongHalf = 'abcdef.0123456789abcdee'
  const unknown = { authority, hash, token: 'ghijkl.0123456789abcdef', seconds: 1 }
  await t.rejects(runStandIn(t, { authority, hash: other }), /has none of the public keys/)
  await t.rejects(runStandIn(t, { authority, hash, token: wrongHalf }), /signature .* is not by this token/)
  await t.rejects(runStandIn(t, unknown), /cluster-info is not signed with the token "ghijkl"/)
}

t.test('the stand-in of kubeadm finds the stand-in of the API', async (t) => {
  const api = await startKubernetesApi(t)
  const authority = new URL(api.url).host
  openClusterInfo(api, authority)
  api.add(secret)
  await findsAndRefuses(t, authority, api.ca)
  const asked = api.requests.filter(({ path }) => path === certificateRequestsPath)
  const users = asked.map(({ user }) => user)
  t.same(users, ['system:bootstrap:abcdef'], 'by the token, once: no other was let so far')

  const [hash = ''] = hashesOf(api)
  openClusterInfo(api, authority, (kubeconfig) => kubeconfig.replace(authority, '127.0.0.1:1'))
  await t.rejects(
    runStandIn(t, { authority, hash }),
    /signature .* is not by this token/,
    'somebody between wrote another address into it',
  )
})

const absent = kubernetesAbsent()
t.test('and the real one', absent === undefined ? {} : { skip: absent }, async (t) => {
  const cluster = await startKubernetes(t)
  await cluster.admin.request('POST', secretsPath, secret)
  await findsAndRefuses(t, `127.0.0.1:${cluster.port}`, cluster.ca)
})
