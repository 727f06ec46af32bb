import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { type Kubernetes, openKubernetes } from '../../src/kubernetes/client.ts'
import { isKubernetesError } from '../../src/kubernetes/faults.ts'
import { readKubeconfig } from '../../src/kubernetes/kubeconfig.ts'
import { freePort } from './ports.ts'

const run = promisify(execFile)
const programs = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kubeadm'] as const

/** A Kubernetes of one test: the real etcd, API server and controller manager, set up by the real kubeadm. It has no scheduler. */
export interface KubernetesCluster {
  /** The folder of its certificates (`pki/`) and logs. */
  readonly folder: string
  readonly port: number
  /** PEM of the cluster's CA. */
  readonly ca: string
  /** The administrator's kubeconfig, as kubeadm wrote it. */
  readonly adminKubeconfig: string
  /** A client of ours, as the administrator. */
  readonly admin: Kubernetes
  /** A kubeconfig for a certificate that the cluster's CA signs. `days` 0 is over at once. */
  kubeconfigOf(account: { name: string; group?: string; days?: number }): Promise<string>
  /** A kubeconfig of a user who has this: `token`, or `client-certificate-data` and `client-key-data`. */
  kubeconfigFor(user: Readonly<Record<string, string>>): string
  /** Runs the real kubeadm. Its output, both streams; throws with it when it fails. */
  kubeadm(...args: string[]): Promise<string>
  /** Stops the API server without a word to its clients, and lets it go on: while it is stopped connections open and nothing answers. */
  freeze(): void
  thaw(): void
}

/** Where `.ci/kubernetes` puts its programs. */
export function kubernetesFolder(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'pawl/kubernetes')
}

/** Why tests with a real Kubernetes cannot run here; undefined where they can. They are no part of PAWL_REQUIRE: the job is optional. */
export function kubernetesAbsent(): string | undefined {
  const folder = kubernetesFolder()
  const missing = programs.filter((program) => !existsSync(join(folder, 'bin', program)))
  return missing.length === 0 && existsSync(join(folder, 'version'))
    ? undefined
    : 'Kubernetes is not built here (.ci/kubernetes builds it)'
}

/** Starts a cluster on ports of loopback that nobody has, and ends it with the test. `address` is where its nodes reach it. */
export async function startKubernetes(t: Test, address = '127.0.0.1'): Promise<KubernetesCluster> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-kubernetes-'))
  const ports = {
    etcd: await freePort(),
    peers: await freePort(),
    api: await freePort(),
    manager: await freePort(),
  }
  const guard = startGuard(folder)
  t.teardown(async () => {
    const ended = once(guard, 'exit')
    guard.stdin?.end()
    await ended
  })
  const start = (program: (typeof programs)[number], args: readonly string[]): ChildProcess => {
    const child = startProgram(folder, program, args)
    guard.stdin?.write(`${child.pid}\n`)
    return child
  }
  const kubeadm = async (...args: string[]): Promise<string> => {
    const { stdout, stderr } = await run(join(kubernetesFolder(), 'bin/kubeadm'), args, {
      env: { PATH: process.env.PATH },
    })
    return stdout + stderr
  }
  const config = join(folder, 'kubeadm.yaml')
  writeFileSync(config, kubeadmConfiguration(folder, ports.api))
  await kubeadm('init', 'phase', 'certs', 'all', '--config', config)
  for (const name of ['admin', 'controller-manager'])
    await kubeadm('init', 'phase', 'kubeconfig', name, '--config', config, '--kubeconfig-dir', folder)
  start('etcd', etcdArguments(folder, ports))
  const api = start('kube-apiserver', apiArguments(folder, ports))
  const adminKubeconfig = readFileSync(join(folder, 'admin.conf'), 'utf8')
  const admin = openKubernetes(readKubeconfig(adminKubeconfig), { clock: () => new Date() })
  // The role of administrators is made behind the first answers.
  const runs = (program: string, child: ChildProcess) => () => {
    if (child.exitCode !== null) throw new Error(`${program} ended: ${tail(folder, program)}`)
  }
  const roles = '/apis/rbac.authorization.k8s.io/v1/clusterroles'
  await until(admin, `${roles}/system:node-bootstrapper`, runs('kube-apiserver', api))
  // It would go to the address that machines use.
  const managerConfig = join(folder, 'controller-manager.conf')
  writeFileSync(managerConfig, readFileSync(managerConfig, 'utf8').replace('//10.0.2.2:', '//127.0.0.1:'))
  const manager = start('kube-controller-manager', managerArguments(folder, ports))
  // kubeadm writes into it what runs the containers of the control plane's own node.
  const labels = { 'kubernetes.io/hostname': 'control-plane' }
  const metadata = { name: 'control-plane', labels }
  await admin.request('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata })
  const asAdmin = ['--config', config, '--kubeconfig', join(folder, 'admin.conf')]
  await kubeadm('init', 'phase', 'upload-config', 'all', ...asAdmin)
  await kubeadm('init', 'phase', 'bootstrap-token', ...asAdmin)
  await forgetFirstToken(admin)
  await announce(admin, `${address}:${ports.api}`)
  const account = '/api/v1/namespaces/default/serviceaccounts/default'
  await until(admin, account, runs('kube-controller-manager', manager))
  const ca = readFileSync(join(folder, 'pki/ca.crt'), 'utf8')
  const server = `https://127.0.0.1:${ports.api}`
  return {
    folder,
    port: ports.api,
    ca,
    adminKubeconfig,
    admin,
    kubeconfigOf: async (account) => kubeconfigText(server, ca, await sign(folder, account)),
    kubeconfigFor: (user) => kubeconfigText(server, ca, user),
    kubeadm,
    freeze: () => void api.kill('SIGSTOP'),
    thaw: () => void api.kill('SIGCONT'),
  }
}

/** A kubeconfig as text, with what proves its user. */
function kubeconfigText(server: string, ca: string, user: Readonly<Record<string, string>>): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      { name: 'c', cluster: { server, 'certificate-authority-data': Buffer.from(ca).toString('base64') } },
    ],
    users: [{ name: 'u', user }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'x',
  })
}

function startProgram(folder: string, program: string, args: readonly string[]): ChildProcess {
  const log = openSync(join(folder, `${program}.log`), 'a')
  const child = spawn(join(kubernetesFolder(), 'bin', program), args, { stdio: ['ignore', log, log] })
  closeSync(log)
  return child
}

/** Ends each process whose number it was told, and the folder, when its standard input closes: also because the test was killed. */
function startGuard(folder: string): ChildProcess {
  const script =
    'pids=; while read -r pid; do pids="$pids $pid"; done; kill -9 $pids 2>/dev/null; rm -rf "$0"'
  return spawn('/bin/sh', ['-c', script, folder], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
}

function tail(folder: string, program: string): string {
  return readFileSync(join(folder, `${program}.log`), 'utf8')
    .trim()
    .split('\n')
    .slice(-3)
    .join(' · ')
}

type Ports = Readonly<Record<'etcd' | 'peers' | 'api' | 'manager', number>>

/** 10.0.2.2 is what machines under QEMU call this machine's loopback. */
function kubeadmConfiguration(folder: string, port: number): string {
  const version = `v${readFileSync(join(kubernetesFolder(), 'version'), 'utf8').replace(/^.*\+really|-.*$/gs, '')}`
  return `apiVersion: kubeadm.k8s.io/v1beta2
kind: InitConfiguration
localAPIEndpoint: { advertiseAddress: 10.0.2.2, bindPort: ${port} }
nodeRegistration: { name: control-plane, criSocket: /run/containerd/containerd.sock }
---
apiVersion: kubeadm.k8s.io/v1beta2
kind: ClusterConfiguration
kubernetesVersion: ${version}
certificatesDir: ${folder}/pki
controlPlaneEndpoint: 127.0.0.1:${port}
apiServer: { certSANs: [127.0.0.1, 10.0.2.2] }
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
# Where it is on nodes: kubeadm would take the folder above.
authentication: { x509: { clientCAFile: /etc/kubernetes/pki/ca.crt } }
`
}

function etcdArguments(folder: string, { etcd, peers }: Ports): string[] {
  return [
    `--data-dir=${folder}/etcd`,
    `--listen-client-urls=http://127.0.0.1:${etcd}`,
    `--advertise-client-urls=http://127.0.0.1:${etcd}`,
    `--listen-peer-urls=http://127.0.0.1:${peers}`,
    `--initial-advertise-peer-urls=http://127.0.0.1:${peers}`,
    `--initial-cluster=default=http://127.0.0.1:${peers}`,
    '--unsafe-no-fsync',
  ]
}

/** As kubeadm's own manifest starts it, as far as there is something to say. */
function apiArguments(folder: string, { etcd, api }: Ports): string[] {
  const pki = `${folder}/pki`
  return [
    `--etcd-servers=http://127.0.0.1:${etcd}`,
    '--bind-address=127.0.0.1',
    `--secure-port=${api}`,
    '--endpoint-reconciler-type=none',
    '--authorization-mode=Node,RBAC',
    '--enable-admission-plugins=NodeRestriction',
    '--enable-bootstrap-token-auth=true',
    `--client-ca-file=${pki}/ca.crt`,
    `--tls-cert-file=${pki}/apiserver.crt`,
    `--tls-private-key-file=${pki}/apiserver.key`,
    '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
    `--service-account-key-file=${pki}/sa.pub`,
    `--service-account-signing-key-file=${pki}/sa.key`,
    '--service-cluster-ip-range=10.96.0.0/12',
  ]
}

function managerArguments(folder: string, { manager }: Ports): string[] {
  const pki = `${folder}/pki`
  return [
    `--kubeconfig=${folder}/controller-manager.conf`,
    '--controllers=bootstrapsigner,tokencleaner,csrapproving,csrsigning,csrcleaner,serviceaccount,serviceaccount-token,root-ca-cert-publisher,disruption',
    '--bind-address=127.0.0.1',
    `--secure-port=${manager}`,
    '--port=0',
    '--leader-elect=false',
    '--use-service-account-credentials=true',
    `--root-ca-file=${pki}/ca.crt`,
    `--cluster-signing-cert-file=${pki}/ca.crt`,
    `--cluster-signing-key-file=${pki}/ca.key`,
    `--service-account-private-key-file=${pki}/sa.key`,
  ]
}

/** Asks until the API has this object. */
async function until(admin: Kubernetes, path: string, look: () => void = () => undefined): Promise<void> {
  for (;;) {
    try {
      return void (await admin.request('GET', path))
    } catch (error) {
      if (!isKubernetesError(error)) throw error
    }
    look()
    await pause(100)
  }
}

/** The one that kubeadm makes for whoever set the cluster up. */
async function forgetFirstToken(admin: Kubernetes): Promise<void> {
  const secrets = '/api/v1/namespaces/kube-system/secrets'
  const { items } = (await admin.request(
    'GET',
    `${secrets}?fieldSelector=type=bootstrap.kubernetes.io/token`,
  )) as {
    items: { metadata: { name: string } }[]
  }
  for (const { metadata } of items) await admin.request('DELETE', `${secrets}/${metadata.name}`)
}

/** Writes into cluster-info where nodes reach the API. */
async function announce(admin: Kubernetes, authority: string): Promise<void> {
  const path = '/api/v1/namespaces/kube-public/configmaps/cluster-info'
  const { data } = (await admin.request('GET', path)) as { data: { kubeconfig: string } }
  const kubeconfig = data.kubeconfig.replace(/server: \S+/, `server: https://${authority}`)
  await admin.request('PATCH', path, { data: { kubeconfig } })
}

/** A client certificate of the cluster's CA, made with openssl as an administrator would. */
async function sign(
  folder: string,
  { name, group, days = 1 }: { name: string; group?: string; days?: number },
): Promise<Record<string, string>> {
  const at = (ending: string): string => join(folder, `${name.replaceAll(/[^a-z0-9-]/g, '_')}.${ending}`)
  const subject = `${group === undefined ? '' : `/O=${group}`}/CN=${name}`
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', at('key')]
  await run('openssl', ['req', '-new', ...key, '-subj', subject, '-out', at('csr')])
  const ca = ['-CA', `${folder}/pki/ca.crt`, '-CAkey', `${folder}/pki/ca.key`, '-CAcreateserial']
  writeFileSync(at('ext'), 'extendedKeyUsage=clientAuth\n')
  await run('openssl', [
    'x509',
    '-req',
    '-in',
    at('csr'),
    ...ca,
    '-days',
    String(days),
    '-extfile',
    at('ext'),
    '-out',
    at('crt'),
  ])
  return {
    'client-certificate-data': readFileSync(at('crt')).toString('base64'),
    'client-key-data': readFileSync(at('key')).toString('base64'),
  }
}
