import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import t, { type Test } from 'tap'
import { parse, parseAllDocuments } from 'yaml'
import { settings } from '../../src/config-table.ts'
import { openAuthority } from '../../src/pki/authority.ts'
import { openCheckpointSigner } from '../../src/pki/checkpoint-key.ts'
import { openClientAuthority } from '../../src/pki/client-authority.ts'
import { checkDataFolder, initData } from '../../src/pki/data-folder.ts'
import { settingsKey } from '../../src/pki/settings-key.ts'

/** What is written for a cluster and for compose, as far as it can be tried without either. */
const deploy = join(import.meta.dirname, '../../deploy')

interface Container {
  readonly name: string
  readonly command: readonly string[]
  readonly env?: readonly { readonly name: string; readonly value: string }[]
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[]
  readonly securityContext: Readonly<Record<string, unknown>>
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[]
  readonly [probe: `${string}Probe`]: { readonly httpGet: { path: string; port: string; scheme: string } }
}

interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
  readonly spec: {
    readonly replicas: number
    readonly minAvailable: number
    readonly type: string
    readonly externalTrafficPolicy?: string
    readonly selector: Readonly<Record<string, unknown>>
    readonly ports: readonly { readonly targetPort: string }[]
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> }
      readonly spec: {
        readonly terminationGracePeriodSeconds: number
        readonly securityContext: Readonly<Record<string, unknown>>
        readonly initContainers: readonly Container[]
        readonly containers: readonly Container[]
        readonly volumes: readonly {
          readonly name: string
          readonly emptyDir?: { readonly sizeLimit?: string }
        }[]
      }
    }
  }
}

function documentsOf<Document>(name: string): Document[] {
  return parseAllDocuments(readFileSync(join(deploy, 'kubernetes', name), 'utf8')).map((document) => {
    const [error] = document.errors
    if (error !== undefined) throw error
    return document.toJS() as Document
  })
}

const documents = documentsOf<Manifest>('pawl.yaml')
const named = (kind: string, name = 'pawl'): Manifest => {
  const found = documents.find((one) => one.kind === kind && one.metadata.name === name)
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`)
  return found
}

/** Checks that every variable is one of a setting, and that its value is one that the server takes. */
function takesSettings(t: Test, env: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(env)) {
    const setting = Object.values(settings).find((one) => one.env === name)
    t.doesNotThrow(() => setting?.parse(value), `${name}=${value}`)
    t.ok(setting, name)
  }
}

t.test('the manifests fit together', async (t) => {
  t.same(
    documents.map(({ apiVersion, kind }) => `${apiVersion} ${kind}`),
    ['v1 Namespace', 'apps/v1 Deployment', 'v1 Service', 'v1 Service', 'policy/v1 PodDisruptionBudget'],
  )
  for (const { kind, metadata } of documents) if (kind !== 'Namespace') t.equal(metadata.namespace, 'pawl')
  const { spec } = named('Deployment')
  const pod = spec.template.spec
  t.ok(spec.replicas >= 2 && named('PodDisruptionBudget').spec.minAvailable < spec.replicas)
  const { labels } = spec.template.metadata
  for (const selector of [spec.selector, named('PodDisruptionBudget').spec.selector])
    t.same(selector, { matchLabels: labels })
  const [server] = pod.containers
  if (server === undefined) throw new Error('there is no container')
  const ports = server.ports?.map(({ name }) => name) ?? []
  for (const name of ['pawl-boot', 'pawl-operator']) {
    const service = named('Service', name).spec
    t.same(service.selector, labels)
    for (const { targetPort } of service.ports) t.ok(ports.includes(targetPort), targetPort)
  }
  t.equal(named('Service', 'pawl-boot').spec.externalTrafficPolicy, 'Local', 'machines keep their addresses')
  t.equal(named('Service', 'pawl-operator').spec.type, 'ClusterIP', 'operators are not on the Internet')
  for (const [probe, path] of [
    ['startupProbe', '/readyz'],
    ['readinessProbe', '/readyz'],
    ['livenessProbe', '/healthz'],
  ] as const)
    t.match(server[probe], { httpGet: { path, port: 'operator', scheme: 'HTTPS' } }, probe)
  const env = Object.fromEntries((server.env ?? []).map(({ name, value }) => [name, value]))
  takesSettings(t, env)
  const stopping = Number(env.PAWL_DRAIN_SECONDS) + Number(env.PAWL_SHUTDOWN_GRACE_SECONDS)
  t.ok(pod.terminationGracePeriodSeconds >= stopping + 5, 'it is not killed before it has ended')
  const gibibytes = (pod.volumes.find(({ name }) => name === 'data')?.emptyDir?.sizeLimit ?? '').match(
    /^(\d+)Gi$/,
  )?.[1]
  const fills = Number(env.PAWL_ARTIFACT_DISK_CACHE_MIB) + Number(env.PAWL_MAX_UPLOADS_MIB)
  t.ok(fills < Number(gibibytes) * 1024, 'it does not fill its volume, for which it would be evicted')
  t.match(pod.securityContext, { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } })
  const volumes = pod.volumes.map(({ name }) => name)
  for (const { securityContext, volumeMounts } of [...pod.initContainers, ...pod.containers]) {
    t.same(securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    })
    for (const { name } of volumeMounts) t.ok(volumes.includes(name), name)
  }
})

t.test('the image that is named is of this version', async (t) => {
  const { version } = JSON.parse(readFileSync(join(deploy, '../package.json'), 'utf8'))
  for (const file of ['kubernetes/pawl.yaml', 'compose/compose.yaml']) {
    const images = [...readFileSync(join(deploy, file), 'utf8').matchAll(/image: (\S+\/pawl:\S+)/g)]
    t.ok(images.length > 0, file)
    for (const [, image] of images) t.equal(image?.split(':').at(-1), version, file)
  }
})

/** What binds an account to what it may do. */
interface Grant {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly annotations?: Readonly<Record<string, string>>
  }
  readonly automountServiceAccountToken?: boolean
  readonly rules?: readonly object[]
  readonly roleRef?: object
  readonly subjects?: readonly object[]
  readonly type?: string
}

const rbac = 'rbac.authorization.k8s.io'

t.test(
  'the accounts for joining and leaving: bound to their role, which allows so much and no more',
  async (t) => {
    const cases = [
      {
        file: 'leave-rbac.yaml',
        kinds: [
          'v1 Namespace',
          'v1 ServiceAccount',
          `${rbac}/v1 ClusterRole`,
          `${rbac}/v1 ClusterRoleBinding`,
        ],
        account: { name: 'pawl-leave', namespace: 'pawl' },
        role: 'ClusterRole',
        within: undefined,
        rules: [
          { apiGroups: [''], resources: ['nodes'], verbs: ['get', 'patch', 'delete'] },
          { apiGroups: [''], resources: ['pods'], verbs: ['list'] },
          { apiGroups: [''], resources: ['pods/eviction'], verbs: ['create'] },
        ],
      },
      {
        file: 'join-role.yaml',
        kinds: ['v1 ServiceAccount', `${rbac}/v1 Role`, `${rbac}/v1 RoleBinding`, 'v1 Secret'],
        account: { name: 'pawl-join', namespace: 'kube-system' },
        role: 'Role',
        within: 'kube-system',
        rules: [{ apiGroups: [''], resources: ['secrets'], verbs: ['create', 'delete'] }],
      },
    ]
    for (const { file, kinds, account, role, within, rules } of cases) {
      const grants = documentsOf<Grant | null>(file).filter((one) => one !== null)
      t.same(
        grants.map(({ apiVersion, kind }) => `${apiVersion} ${kind}`),
        kinds,
        file,
      )
      const of = (kind: string): Grant => {
        const found = grants.find((one) => one.kind === kind)
        if (found === undefined) throw new Error(`${file} has no ${kind}`)
        return found
      }
      t.match(of('ServiceAccount').metadata, account)
      t.same(of(role).rules, rules, file)
      const binding = of(`${role}Binding`)
      for (const { metadata } of [of(role), binding]) t.equal(metadata.namespace, within, file)
      t.same(binding.roleRef, { apiGroup: rbac, kind: role, name: of(role).metadata.name })
      t.same(binding.subjects, [{ kind: 'ServiceAccount', ...account }])
      for (const { metadata, type } of grants.filter(({ kind }) => kind === 'Secret')) {
        t.equal(type, 'kubernetes.io/service-account-token')
        t.equal(metadata.namespace, account.namespace)
        t.same(metadata.annotations, { 'kubernetes.io/service-account.name': account.name })
      }
    }
  },
)

t.test('the data folder that a pod makes of its secrets is one that a server starts on', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-kubernetes-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const made = join(folder, 'made')
  const publicUrl = 'https://boot.example.com:8443'
  const { created } = await initData({ dataDir: made, publicUrl, names: [], now: new Date() })
  for (const name of ['keys', 'settings', 'data']) mkdirSync(join(folder, name))
  const secret = created.filter((name) => /\.(crt|key)$/.test(name) && name !== 'pki/root.key')
  const head = readFileSync(join(deploy, 'kubernetes/pawl.yaml'), 'utf8').split('apiVersion:')[0] ?? ''
  for (const name of secret) {
    t.match(head, new RegExp(`--from-file=(${basename(name)}=)?${name.replace('.', '\\.')}[ )\\\\]`), name)
    copyFileSync(join(made, name), join(folder, 'keys', basename(name)))
  }
  t.notMatch(head, /--from-file=\S*root\.key/, 'the key of the root stays away')
  copyFileSync(join(made, 'pawl.yaml'), join(folder, 'settings', 'pawl.yaml'))
  const [init] = named('Deployment').spec.template.spec.initContainers
  const script = (init?.command.at(-1) ?? '').replace(/(\s|")\/(keys|settings|data)\b/g, `$1${folder}/$2`)
  const ran = spawnSync('/bin/sh', ['-ec', script], { encoding: 'utf8' })
  t.equal(ran.status, 0, ran.stderr)
  const dataDir = join(folder, 'data', 'pawl')
  checkDataFolder(dataDir)
  t.notOk(openAuthority(dataDir).rootKeyIsHere())
  t.same(settingsKey(dataDir), settingsKey(made))
  for (const kind of ['operator', 'node'] as const)
    t.equal(openClientAuthority(dataDir, kind).certificate, openClientAuthority(made, kind).certificate)
  t.same(await openCheckpointSigner(dataDir).key(), await openCheckpointSigner(made).key())
})

t.test('compose: settings that the server takes, and a balancer that HAProxy takes', async (t) => {
  const text = readFileSync(join(deploy, 'compose/compose.yaml'), 'utf8')
  const { services } = parse(text, { merge: true }) as {
    services: Record<string, { environment: Record<string, string>; volumes: string[]; depends_on?: unknown }>
  }
  const names = ['pawl-a', 'pawl-b', 'pawl-c']
  const config = readFileSync(join(deploy, 'compose/haproxy.cfg'), 'utf8')
  for (const name of names) {
    takesSettings(t, services[name]?.environment ?? {})
    t.ok(services[name]?.volumes.includes(`./data-${name.slice(-1)}:/data`), `${name} has a copy of its own`)
    t.match(config, new RegExp(`server \\w ${name}:8443`))
  }
  t.same(services.haproxy?.depends_on, names)
})

const absent = spawnSync('which', ['haproxy']).status === 0 || process.env.PAWL_REQUIRE === 'all'
t.test(
  'HAProxy takes the balancer of compose',
  { skip: absent ? false : 'haproxy is not installed' },
  (t) => {
    const checked = spawnSync('haproxy', ['-c', '-f', join(deploy, 'compose/haproxy.cfg')], {
      encoding: 'utf8',
    })
    t.equal(checked.status, 0, checked.stderr) // names that only compose resolves are warnings
    t.notMatch(checked.stderr, /ALERT/)
    t.end()
  },
)
