import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import type { Credential } from '../../src/joining/broker.ts'
import { type Kubernetes, type KubernetesObject, openKubernetes } from '../../src/kubernetes/client.ts'
import { readKubeconfig } from '../../src/kubernetes/kubeconfig.ts'
import { clusterInfoPath, certificateRequestsPath as requests } from './kubernetes-api.ts'
import type { KubernetesCluster } from './kubernetes-cluster.ts'

/** What a machine does at a real cluster with a bootstrap token. */
const run = promisify(execFile)
const clock = (): Date => new Date()

/** A client that shows the bootstrap token. */
export function asNode(
  cluster: KubernetesCluster,
  { handle, secret }: Pick<Credential, 'handle' | 'secret'>,
): Kubernetes {
  return openKubernetes(readKubeconfig(cluster.kubeconfigFor({ token: `${handle}.${secret}` })), { clock })
}

/** Waits until the bootstrap signer has signed cluster-info with this token. */
export async function signedBy(cluster: KubernetesCluster, handle: string): Promise<void> {
  for (;;) {
    const { data } = await cluster.admin.request('GET', clusterInfoPath)
    if (`jws-kubeconfig-${handle}` in (data as object)) return
    await pause(50)
  }
}

/** What a kubelet does first: it asks for a certificate of its own, and then is its node. */
export async function tlsBootstrap(t: Test, cluster: KubernetesCluster, node: Kubernetes): Promise<void> {
  const [key, csr] = [join(cluster.folder, 'n1.key'), join(cluster.folder, 'n1.csr')]
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key]
  await run('openssl', ['req', '-new', ...curve, '-subj', '/O=system:nodes/CN=system:node:n1', '-out', csr])
  const asked: KubernetesObject = await node.request('POST', requests, {
    apiVersion: 'certificates.k8s.io/v1',
    kind: 'CertificateSigningRequest',
    metadata: { name: 'node-csr-n1' },
    spec: {
      request: readFileSync(csr).toString('base64'),
      signerName: 'kubernetes.io/kube-apiserver-client-kubelet',
      usages: ['digital signature', 'key encipherment', 'client auth'],
    },
  })
  const { username, groups } = asked.spec as { username: string; groups: string[] }
  t.match(username, /^system:bootstrap:[a-z0-9]{6}$/)
  t.ok(groups.includes('system:bootstrappers:kubeadm:default-node-token'), groups.join(' '))
  let certificate: string | undefined
  while (certificate === undefined) {
    await pause(50)
    const { status } = await node.request('GET', `${requests}/node-csr-n1`)
    certificate = (status as { certificate?: string }).certificate
  }
  const user = {
    'client-certificate-data': certificate,
    'client-key-data': readFileSync(key).toString('base64'),
  }
  const kubelet = openKubernetes(readKubeconfig(cluster.kubeconfigFor(user)), { clock })
  const made = await kubelet.request('POST', '/api/v1/nodes', {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'n1' },
    spec: {},
  })
  t.match(made, { kind: 'Node', metadata: { name: 'n1' } }, 'the certificate is its node')
}

/** `kubeadm join` as far as it reads the cluster's configuration: what this machine lacks for the rest is no matter here. */
export async function preflight(
  t: Test,
  cluster: KubernetesCluster,
  { handle, secret }: Credential,
  hash: string,
): Promise<string> {
  return preflightWith(
    t,
    cluster,
    `apiVersion: kubeadm.k8s.io/v1beta2
kind: JoinConfiguration
discovery:
  timeout: 20s
  bootstrapToken:
    apiServerEndpoint: "127.0.0.1:${cluster.port}"
    token: "${handle}.${secret}"
    caCertHashes: ["${hash}"]
nodeRegistration: { name: n1, criSocket: /run/containerd/containerd.sock }
`,
  )
}

/** The same with a configuration as text. */
export async function preflightWith(
  t: Test,
  cluster: KubernetesCluster,
  configuration: string,
): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-preflight-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'join.yaml')
  writeFileSync(file, configuration)
  return cluster.kubeadm(
    'join',
    'phase',
    'preflight',
    '--config',
    file,
    '--ignore-preflight-errors=all',
    '-v=5',
  )
}

/** What a join script gives kubeadm, with what a machine of ours lacks beside it. */
export function configurationIn(script: string): string {
  const [, text = ''] = /<<'END_OF_CONFIGURATION'\n(.*?)END_OF_CONFIGURATION/s.exec(script) ?? []
  return `apiVersion: kubeadm.k8s.io/v1beta2\n${text}  criSocket: /run/containerd/containerd.sock\n`
}
