import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { createClientAuthorities, openClientAuthority } from '../../src/pki/client-authority.ts'
import { loadTls } from '../../src/pki/tls.ts'
import { generateKey, makeSigningRequest } from '../../src/pki/x509.ts'

/**
 * The client certificate in the agents' hands, with their own shell functions and a real curl: where it comes from, whom it is
 * shown to, and what other users of the machine could see. Machines under QEMU do the same in test/boot/certificate.test.ts.
 */
const absent = ['jq', 'curl'].filter((name) => spawnSync('which', [name]).status !== 0)
const needs = {
  skip: absent.length > 0 && process.env.PAWL_REQUIRE !== 'all' && `${absent.join(', ')} not installed`,
}
const now = new Date()
const shared = t.testdir({ data: { pki: {} } })
const dataDir = join(shared, 'data')
await createAuthority(dataDir, now)
await createClientAuthorities(dataDir, now)
const authority = openAuthority(dataDir)
const nodes = openClientAuthority(dataDir, 'node')
const names = ['127.0.0.1']
const serverTls = await loadTls(authority, { kind: 'boot', names, now, clientCa: nodes.certificate })
const key = await generateKey()
const notAfter = new Date(now.getTime() + 86_400_000)
const issued = await nodes.issue({ name: 'n', request: await makeSigningRequest(key, 'n'), now, notAfter })
const pem = key + issued.certificate

interface Wish {
  /** Whether the handover says that the profile requires one. */
  readonly required?: boolean
  /** What iPXE has put beside the initramfs. */
  readonly given?: string
  /** What the volume PAWL has; left out: there is no such volume. */
  readonly medium?: string
}

/** Receives a handover, looks for the certificate and asks the server for stage 2, as the stage-2 agent does. */
async function ask(t: Test, { required = true, given, medium }: Wish) {
  const folder = mkdtempSync(join(shared, 'run-'))
  const run = join(folder, 'run')
  const shown: (string | undefined)[] = []
  const server = createServer({ ...serverTls.options() }, (request, response) => {
    const certificate = (request.socket as TLSSocket).getPeerX509Certificate()
    shown.push(certificate?.fingerprint256.replaceAll(':', '').toLowerCase())
    response.end('{}')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const base = `https://127.0.0.1:${(server.address() as AddressInfo).port}/v1/boot/n`
  const handover = {
    ...{ version: 1, host: 'n', session: 's', base, ca: authority.rootCertificate, time: null, nic: {} },
    ...{ tokens: { stage2: 'two', report: 'report' }, ...(required ? { certificate: true } : {}) },
  }
  writeFileSync(join(folder, 'pawl.json'), JSON.stringify(handover))
  if (given !== undefined) writeFileSync(join(folder, 'pawl-client.pem'), given)
  if (medium !== undefined) {
    mkdirSync(join(folder, 'volume/pawl'), { recursive: true })
    writeFileSync(join(folder, 'volume/pawl/client.pem'), medium)
  }
  mkdirSync(join(folder, 'bin'))
  const curl = spawnSync('which', ['curl'], { encoding: 'utf8' }).stdout.trim()
  const spy = `#!/bin/sh\n{ echo "$@"; env; } >>${folder}/seen\nexec ${curl} "$@"\n`
  writeFileSync(join(folder, 'bin/curl'), spy, { mode: 0o755 })
  const lib = join(import.meta.dirname, '../../images/lib')
  const agent = readFileSync(join(lib, 'agent.sh'), 'utf8')
    .replace(/^RUN=.*$/m, `RUN=${run}`)
    .replaceAll('/usr/lib/pawl/', `${lib}/`)
    .replaceAll(/(?<=[ \]])\/pawl-client\.pem/g, `${folder}/pawl-client.pem`)
  const script = `set -u
${agent}
fail() { echo "error: $1"; echo "hint: $2"; exit 3; }
load_drivers() { :; }
sleep() { command sleep 0.05; }
sync() { :; }
findfs() { [ -d ${folder}/volume ] && echo ${folder}/volume; }
mount() { echo "$@" >${folder}/mounted; rmdir "$RUN/medium" && ln -s ${folder}/volume "$RUN/medium"; }
umount() { rm "$1" && echo >>${folder}/mounted taken off; }
receive_handover ${folder}/pawl.json
take_certificate
redeem stage2 "$TOKEN_STAGE2" "$RUN/answer.json"`
  const child = spawn('sh', ['-c', script], {
    env: { ...process.env, PATH: `${folder}/bin:${process.env.PATH}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text) => {
      said += text
    })
  const [exit] = await once(child, 'close')
  const file = join(run, 'client.pem')
  return {
    ...{ exit, said, shown },
    seen: existsSync(join(folder, 'seen')) ? readFileSync(join(folder, 'seen'), 'utf8') : '',
    mode: existsSync(file) ? (statSync(file).mode & 0o777).toString(8) : undefined,
    mounted: existsSync(join(folder, 'mounted')) ? readFileSync(join(folder, 'mounted'), 'utf8') : '',
    left: existsSync(join(folder, 'pawl-client.pem')),
  }
}

t.test(
  'what iPXE gave is shown; the key is in a file of root, and no program is started with it',
  needs,
  async (t) => {
    const { exit, said, shown, seen, mode, mounted, left } = await ask(t, { given: pem })
    t.equal(exit, 0, said)
    t.strictSame(shown, [issued.fingerprint])
    t.match(said, 'pawl: boot: a client certificate is there')
    t.equal(mode, '600')
    t.equal(left, false, 'it is not left in the initramfs')
    t.equal(mounted, '', 'no medium is looked for')
    const secret = key.split('\n')[2] ?? ''
    t.notMatch(seen + said, secret, 'in no argument, no variable, and not on the console')
    t.notMatch(seen, 'PRIVATE KEY')
  },
)

t.test('else it is read from the volume PAWL, which is mounted to be read only', needs, async (t) => {
  const { exit, said, shown, mode, mounted } = await ask(t, { medium: pem })
  t.strictSame([exit, shown, mode], [0, [issued.fingerprint], '600'], said)
  t.match(mounted, /^-t vfat -o ro,nosuid,nodev,noexec,umask=077 .*\ntaken off\n$/)
})

t.test('where it is missing or no certificate, the console says so and what to do', needs, async (t) => {
  const none = await ask(t, {})
  t.strictSame([none.exit, none.shown], [3, []])
  t.match(none.said, 'error: this machine has no client certificate, and its profile requires one')
  t.match(
    none.said,
    'hint: pawl node certificate issue n --out client.pem, and put that file on the boot medium',
  )
  for (const wrong of ['nonsense', key, issued.certificate, 'x'.repeat(200_000)]) {
    for (const wish of [{ given: wrong }, { medium: wrong }]) {
      const { exit, said, shown } = await ask(t, wish)
      t.strictSame([exit, shown], [3, []], wrong.slice(0, 30))
      t.match(said, 'error: the client certificate of this machine cannot be used')
    }
  }
})

t.test('where none is required, none is looked for', needs, async (t) => {
  const { exit, shown, mounted } = await ask(t, { required: false, medium: pem })
  t.strictSame([exit, shown, mounted], [0, [undefined], ''])
})

t.test('an object store is not shown it', (t) => {
  const transfer = readFileSync(join(import.meta.dirname, '../../images/lib/transfer.sh'), 'utf8')
  const store = /write_store_config\(\) \{[\s\S]*?\n\}/.exec(transfer)?.[0] ?? ''
  t.match(store, 'cacert = ')
  t.notMatch(store, /^cert = /m)
  t.end()
})
