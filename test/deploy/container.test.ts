import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse, parseAllDocuments } from 'yaml'
import { initPawl } from '../../src/init.ts'
import { startPostgres } from '../helpers/postgres.ts'
import { smallKernel } from '../helpers/small-image.ts'

/**
 * The containers of deploy/kubernetes and deploy/compose as their runtimes would start them, without one: the Debian package over this
 * machine's root, which is read-only, their user without capabilities, their commands, variables and volumes with the owners that
 * they have there. Not so: their seccomp profile, memory limits and networks.
 */
const repository = join(import.meta.dirname, '../..')
const wanted = process.env.PAWL_REQUIRE === 'all'
const lacking =
  process.getuid?.() !== 0
    ? 'mounts need root'
    : wanted || ['dpkg-deb', 'setpriv', 'curl', 'ip'].every((tool) => spawnSync('which', [tool]).status === 0)
      ? undefined
      : 'dpkg-deb, setpriv, curl or ip is not installed'
const skip = lacking ?? false
const publicUrl = 'https://boot.example.com:8443'
const user = 10_001

const top = mkdtempSync(join(tmpdir(), 'pawl-container-'))
t.teardown(() => rmSync(top, { recursive: true, force: true }))
chmodSync(top, 0o755)

/** What the image is made of, as its manifest says: the package, and the places of volumes. */
let unpacked: string | undefined
function tree(): string {
  if (unpacked !== undefined) return unpacked
  unpacked = join(top, 'tree')
  const env = { ...process.env, DEB_COMPRESSION: 'none' }
  const file = execFileSync(join(repository, 'deploy/debian/build.sh'), [top], {
    env,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim()
  execFileSync('dpkg-deb', ['-x', file, unpacked])
  for (const name of ['data', 'keys', 'settings', 'artifacts', 'box', 'postgres'])
    mkdirSync(join(unpacked, name), { recursive: true })
  return unpacked
}

interface Volume {
  readonly source: string
  readonly target: string
  readonly readOnly?: boolean
}

/** Runs a script in such a container; undefined where this machine does not mount one. */
function run(t: Test, volumes: readonly Volume[], script: string): string | undefined {
  const work = mkdtempSync(join(top, 'work-'))
  const box = join(work, 'box')
  mkdirSync(box)
  writeFileSync(join(box, 'script'), script)
  const all = [...volumes, { source: box, target: '/box' }]
  const lines = all.map(
    ({ source, target, readOnly }) => `${source} ${target} ${readOnly === true ? 'ro' : 'rw'}\n`,
  )
  writeFileSync(join(work, 'mounts'), lines.join(''))
  const ran = spawnSync(
    'unshare',
    ['--mount', '--net', '--pid', '--fork', 'sh', join(import.meta.dirname, 'container.sh'), tree(), work],
    { encoding: 'utf8', timeout: 240_000 },
  )
  if (ran.status !== 0 && /^(unshare|mount):/m.test(ran.stderr) && ran.stdout === '') {
    t.pass('started', { skip: `this machine mounts no overlay: ${ran.stderr.slice(0, 200)}` })
    return undefined
  }
  t.equal(ran.status, 0, ran.stderr)
  return ran.stdout
}

/** As the user of the container, with nothing that it could do more. */
const asUser = `setpriv --reuid=${user} --regid=${user} --groups=${user} --no-new-privs --bounding-set=-all --inh-caps=-all`
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

/** Starts the server, asks what its probes ask, stops it, and says what happened. `meanwhile` runs beside it. */
function serving(
  command: readonly string[],
  env: Readonly<Record<string, string>>,
  probes: readonly string[],
  meanwhile = '',
): string {
  const variables = Object.entries(env).map(([name, value]) => quoted(`${name}=${value}`))
  return `
${asUser} env ${variables.join(' ')} ${command.map(quoted).join(' ')} >/box/ready 2>/box/log &
server=$!
for _ in $(seq 600); do grep -q '"event":"ready"' /box/ready && break; kill -0 $server || break; sleep 0.1; done
grep -q '"event":"ready"' /box/ready || { cat /box/log >&2; exit 1; }
status() { curl -sk -o /dev/null -w '%{http_code}' "https://127.0.0.1:$1$2"; }
for probe in ${probes.join(' ')}; do echo "$probe $(status \${probe%%/*} /\${probe#*/})"; done
grep -hE '^(Uid|CapEff|CapBnd|NoNewPrivs)' /proc/$server/status
touch /usr/written 2>/dev/null || echo 'read-only root'
${meanwhile}
kill -TERM $server
until [ "$(status 8444 /readyz)" != 200 ]; do sleep 0.05; done
echo "stopping: $(status 8444 /readyz) $(status 8444 /healthz)"
code=0; wait $server || code=$?
echo "ended: $code"
`
}

const privileges = /Uid:\t10001\t10001\t10001\t10001\nCapEff:\t0{16}\nCapBnd:\t0{16}\nNoNewPrivs:\t1\n/

interface Container {
  readonly name: string
  readonly command: readonly string[]
  readonly env?: readonly { readonly name: string; readonly value: string }[]
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[]
  readonly volumeMounts: readonly {
    readonly name: string
    readonly mountPath: string
    readonly readOnly?: boolean
  }[]
  readonly [probe: `${string}Probe`]: { readonly httpGet: { readonly path: string; readonly port: string } }
}

/** A volume as a kubelet makes it for the group of a pod (fsGroup): root's, and the group may do what its owner may. */
function emptyDir(folder: string): string {
  mkdirSync(folder)
  chownSync(folder, 0, user)
  chmodSync(folder, 0o2777)
  return folder
}

/** A Secret as a kubelet mounts it: links to files of a folder that is replaced as a whole, readable by the group. */
function secret(folder: string, files: Readonly<Record<string, string>>): string {
  const data = join(folder, '..2026_11_22')
  mkdirSync(data, { recursive: true })
  execFileSync('ln', ['-s', '..2026_11_22', join(folder, '..data')])
  for (const [name, file] of Object.entries(files)) {
    cpSync(file, join(data, name))
    execFileSync('ln', ['-s', join('..data', name), join(folder, name)])
  }
  for (const name of ['', ...readdirSync(data)]) chownSync(join(data, name), 0, user)
  for (const name of readdirSync(data)) chmodSync(join(data, name), 0o440)
  return folder
}

t.test(
  'the pod of deploy/kubernetes: its commands start a server that its probes find',
  { skip },
  async (t) => {
    const folder = mkdtempSync(join(top, 'pod-'))
    chmodSync(folder, 0o755)
    const made = join(folder, 'made')
    await initPawl({ dataDir: made, database: join(made, 'pawl.db'), publicUrl, names: [], now: new Date() })
    const database = await (await startPostgres()).createDatabase()
    const sockets = new URL(database).searchParams.get('host') ?? ''
    chmodSync(sockets, 0o755)
    const settings = join(made, 'pawl.yaml')
    const text = readFileSync(settings, 'utf8').replace(/^database:.*\n/m, '')
    writeFileSync(settings, `${text}database: ${database.replace(sockets, '/postgres')}\n`)
    const names = ['issuing.crt', 'issuing.key', 'clients.crt', 'clients.key', 'nodes.crt', 'nodes.key']
    const keys = Object.fromEntries(
      [...names, 'settings.key', 'checkpoint.key'].map((name) => [name, join(made, 'pki', name)]),
    )
    const manifest = readFileSync(join(repository, 'deploy/kubernetes/pawl.yaml'), 'utf8')
    const deployment = parseAllDocuments(manifest)
      .map((document) => document.toJS())
      .find(({ kind }) => kind === 'Deployment')
    const { securityContext, initContainers, containers, volumes } = deployment.spec.template.spec
    t.match(securityContext, { runAsUser: user, runAsGroup: user, fsGroup: user })
    const sources: Record<string, string> = {
      data: emptyDir(join(folder, 'data')),
      tmp: emptyDir(join(folder, 'tmp')),
      keys: secret(join(folder, 'keys'), { ...keys, 'ca.crt': join(made, 'ca.crt') }),
      settings: secret(join(folder, 'settings'), { 'pawl.yaml': settings }),
    }
    t.same(volumes.map(({ name }: { name: string }) => name).sort(), Object.keys(sources).sort())
    const [init, server] = [initContainers[0], containers[0]] as [Container, Container]
    const mounts = [...init.volumeMounts, ...server.volumeMounts].map(({ name, mountPath, readOnly }) => ({
      source: sources[name] ?? '',
      target: mountPath,
      readOnly: readOnly === true,
    }))
    const volumesOnce = [...new Map(mounts.map((one) => [one.target, one])).values()]
    const ports = Object.fromEntries(
      (server.ports ?? []).map(({ name, containerPort }) => [name, containerPort]),
    )
    const probes = (['startupProbe', 'readinessProbe', 'livenessProbe'] as const).map((name) => {
      const { path, port } = server[name]?.httpGet ?? { path: '', port: '' }
      return `${ports[port]}${path}`
    })
    const env = Object.fromEntries((server.env ?? []).map(({ name, value }) => [name, value]))
    const said = run(
      t,
      [...volumesOnce, { source: sockets, target: '/postgres' }],
      `set -eu
${asUser} ${init.command.map(quoted).join(' ')}
echo "init: $?"
${serving(server.command, { ...env, PAWL_DRAIN_SECONDS: '1' }, [...probes, `${ports.boot}/_ah/health`])}`,
    )
    if (said === undefined) return
    t.match(said, /^init: 0$/m)
    for (const probe of [...probes, `${ports.boot}/_ah/health`]) t.match(said, `${probe} 200\n`, probe)
    t.match(said, privileges)
    t.match(said, /^read-only root$/m)
    t.match(said, /^stopping: 503 200$/m, 'it serves on while it drains')
    t.match(said, /^ended: 0$/m)
  },
)

t.test('a Pawl of deploy/compose: its folders suffice, images included', { skip }, async (t) => {
  const folder = mkdtempSync(join(top, 'compose-'))
  chmodSync(folder, 0o755)
  const text = readFileSync(join(repository, 'deploy/compose/compose.yaml'), 'utf8')
  const [how = ''] = text.split('services:')
  const { services } = parse(text, { merge: true }) as {
    services: Record<
      string,
      {
        user: string
        command: string[]
        environment: Record<string, string>
        volumes: string[]
        tmpfs: string[]
      }
    >
  }
  const pawl = services['pawl-a']
  if (pawl === undefined) throw new Error('there is no pawl-a')
  t.match(pawl, { user: `${user}:${user}`, read_only: true, cap_drop: ['ALL'], tmpfs: ['/tmp'] })
  // What its head says is to be done before, without the password of the PostgreSQL there.
  const steps = [...how.matchAll(/^# {5}(.*)$/gm)]
    .map(([, line = '']) => line)
    .filter((line) => !/postgres|^docker/.test(line))
  t.ok(steps.length >= 3)
  const path = `${join(repository, 'bin')}:${process.env.PATH}`
  execFileSync('sh', ['-euc', steps.join('\n')], {
    cwd: folder,
    env: { ...process.env, PATH: path },
    stdio: 'ignore',
  })
  const volumes = pawl.volumes.map((volume) => {
    const [source = '', target = ''] = volume.split(':')
    t.match(source, /^\.\//, 'a folder that its head makes: a volume by name would be of root alone')
    return { source: join(folder, source), target }
  })
  writeFileSync(join(folder, 'data-a', 'kernel'), smallKernel().bytes)
  const publish = `${asUser} env PAWL_DATA=/data pawl image publish demo@1 --kernel /data/kernel --initramfs /data/kernel --data /data >/dev/null && echo 'published'
ls /artifacts/sha256 | wc -l`
  const env = { ...pawl.environment, PAWL_DRAIN_SECONDS: '1' }
  const probes = ['8444/readyz', '8443/_ah/health']
  const said = run(t, volumes, `set -eu\n${serving(pawl.command, env, probes, publish)}`)
  if (said === undefined) return
  for (const probe of probes) t.match(said, `${probe} 200\n`, probe)
  t.match(said, privileges)
  t.match(said, /^read-only root$/m)
  t.match(said, /^published\n1$/m, 'its image is in the folder that all three share')
  t.match(said, /^ended: 0$/m)
})
