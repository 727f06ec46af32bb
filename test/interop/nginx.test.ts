import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { type IncomingHttpHeaders, request as plainRequest } from 'node:http'
import { request } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import type { FastifyRequest } from 'fastify'
import pino from 'pino'
import t, { type Test } from 'tap'
import { canonicalJson } from '../../src/domain/canonical-json.ts'
import { digestOf } from '../../src/domain/digest.ts'
import { manifestDigest, parseManifest } from '../../src/domain/image.ts'
import { openStory } from '../../src/fleet/open-story.ts'
import { buildBootListener } from '../../src/http/boot-listener.ts'
import { openArtifactStore } from '../../src/images/artifacts.ts'
import { openArtifactCache } from '../../src/images/cache.ts'
import { createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { loadTls } from '../../src/pki/tls.ts'
import { insertImage } from '../../src/storage/images.ts'
import { listStages } from '../../src/storage/sessions.ts'
import { demoProfile, storeNode, storeProfile } from '../helpers/fleet.ts'
import { boot, machineOf } from '../helpers/machine.ts'
import { freePort } from '../helpers/ports.ts'
import { forEachDatabase, type OpenWorld } from '../helpers/world.ts'

/** A real nginx with the files of deploy/nginx, before and beside a real boot listener. */
const missing = ['nginx', 'curl', 'jq'].filter((name) => spawnSync('which', [name]).status !== 0)
const skip =
  missing.length === 0 || process.env.PAWL_REQUIRE === 'all' ? false : `${missing.join(', ')} not installed`

const shared = mkdtempSync(join(tmpdir(), 'pawl-nginx-'))
t.teardown(() => rmSync(shared, { recursive: true, force: true }))
mkdirSync(join(shared, 'pki'))
const now = new Date() // nginx and curl look at the real clock
await createAuthority(shared, now)
const authority = openAuthority(shared)
const tls = (await loadTls(authority, { kind: 'boot', names: ['127.0.0.1', 'localhost'], now })).options()
const ca = authority.rootCertificate
const content = randomBytes(9_500_001)
const digest = digestOf(content)
const other = randomBytes(1000)
const path = `/v1/artifacts/sha256/${digest}`
const artifacts = join(shared, 'artifacts')
const store = await openArtifactStore(artifacts)
for (const bytes of [content, other])
  await store.put(digestOf(bytes), Readable.from([bytes]), { maxBytes: 2 ** 30 })

interface Seen {
  readonly url: string
  readonly headers: IncomingHttpHeaders
}

/** A boot listener with the image `full@1`, and what it was asked. */
async function openPawl(t: Test, openWorld: OpenWorld, profile: object) {
  const world = await openWorld()
  const part = (role: string, bytes: Buffer) => ({
    ...{ role, digest: digestOf(bytes), size: bytes.length, mediaType: 'application/octet-stream' },
  })
  for (const name of ['small', 'full']) {
    const manifest = parseManifest({
      ...{
        schema: 'pawl.image/v1',
        name,
        version: '1',
        arch: 'x86_64',
        kernelArguments: '',
        minMemoryMiB: 512,
      },
      artifacts: [part('kernel', other), part('initramfs', other), part('filesystem', content)],
    })
    const row = { name, version: '1', manifest: canonicalJson(manifest), digest: manifestDigest(manifest) }
    const at = world.clock.now().toISOString()
    await world.context.storage.transaction((tx) =>
      insertImage(tx, { ...row, created_at: at, created_by: 'test' }),
    )
  }
  await storeProfile(world, { ...demoProfile, reinstall: demoProfile.boot, ...profile })
  const secret = await storeNode(world, { name: 'node1' })
  const app = buildBootListener(openStory(world.context), {
    tls,
    log: pino({ level: 'silent' }),
    limits: { maxBodyBytes: 65_536, requestTimeoutSeconds: 15, idleTimeoutSeconds: 15, maxConnections: 100 },
    trustedProxies: ['127.0.0.1/32'],
    accelRedirectPath: '/pawl-artifacts/',
    artifacts: openArtifactCache(store),
  })
  const seen: Seen[] = []
  app.addHook('onRequest', async ({ raw, headers }: FastifyRequest) => {
    seen.push({ url: raw.url ?? '', headers })
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(() => {
    app.server.closeAllConnections()
    return app.close()
  })
  return { world, secret, seen, port: (app.server.address() as AddressInfo).port }
}

/** Starts nginx with one of our files, its names replaced by those of here. */
async function startNginx(t: Test, file: string, replaced: Readonly<Record<string, string>>) {
  const folder = mkdtempSync(join(shared, 'nginx-'))
  const port = await freePort()
  const example = readFileSync(join(import.meta.dirname, '../../deploy/nginx', file), 'utf8')
  const here: Record<string, string> = {
    '/var/log/nginx': folder,
    '/var/cache/nginx/pawl': join(folder, 'cache'),
    '/etc/nginx': folder,
    '/srv/pawl-artifacts': artifacts,
    '/srv/images': artifacts,
    ...replaced,
  }
  let text = example.replace(/^ *listen \[::\].*\n/gm, '').replace(/listen \d+/, `listen 127.0.0.1:${port}`)
  for (const [name, value] of Object.entries(here)) {
    if (name.startsWith('=')) t.ok(text.includes(name.slice(1)), name)
    text = text.replaceAll(name.replace(/^=/, ''), value)
  }
  writeFileSync(join(folder, 'pawl-ca.crt'), ca)
  writeFileSync(join(folder, 'pawl-boot.crt'), String(Array.isArray(tls.cert) ? tls.cert[0] : tls.cert))
  writeFileSync(join(folder, 'pawl-boot.key'), String(Array.isArray(tls.key) ? tls.key[0] : tls.key), {
    mode: 0o600,
  })
  writeFileSync(join(folder, 'site.conf'), text)
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (n) => `${n}_temp_path ${folder}/${n};`,
  )
  const user = process.getuid?.() === 0 ? 'user root;' : ''
  const main = `${user} daemon off; worker_processes 1; pid ${folder}/pid; error_log ${folder}/error.log;
events {} http { ${temporary.join(' ')} include ${folder}/site.conf; }`
  writeFileSync(join(folder, 'nginx.conf'), main)
  const child = spawn('nginx', ['-p', folder, '-c', join(folder, 'nginx.conf')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const said = text_(child.stderr)
  t.teardown(async () => {
    const ended = once(child, 'close')
    child.kill('SIGTERM')
    if (child.exitCode === null) await ended
  })
  while (!(await answers(port))) {
    if (child.exitCode !== null) throw new Error(await said)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return { port, folder, logs: () => readLogs(folder) }
}

const text_ = (stream: Readable) => text(stream)

function readLogs(folder: string): string {
  const logs = readdirSync(folder).filter((name) => name.endsWith('.log'))
  return logs.map((name) => readFileSync(join(folder, name), 'utf8')).join('')
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1').on('error', () => {})
  const event = await new Promise((resolve) => {
    socket.once('connect', () => resolve(true)).once('close', () => resolve(false))
  })
  socket.destroy()
  return event === true
}

async function ask(url: string, headers: Record<string, string> = {}, method = 'GET') {
  const send = url.startsWith('https:') ? request : plainRequest
  const asked = send(url, { method, headers, ca, agent: false, servername: 'localhost' }).end()
  const [response] = await once(asked, 'response')
  return {
    status: response.statusCode as number,
    headers: response.headers as IncomingHttpHeaders,
    body: await buffer(response),
  }
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'a site cache: four clients, one fetch; no token in it, before it or behind it',
    { skip },
    async (t) => {
      const pawl = await openPawl(t, openWorld, { downloads: 'digest' })
      const names = { '=pawl.example.com:8443': `127.0.0.1:${pawl.port}`, 'pawl.example.com': 'localhost' }
      const cache = await startNginx(t, 'site-cache.conf', names)
      const url = `http://127.0.0.1:${cache.port}${path}`
      const secret = { authorization: 'Bearer a-secret', cookie: 'c=a-secret', 'x-other': 'a-secret' }

      const got = await Promise.all([1, 2, 3, 4].map(() => ask(`${url}?c=a-secret`, secret)))
      t.ok(got.every(({ status, body }) => status === 200 && body.equals(content)))
      t.match(got[0]?.headers, {
        etag: `"sha256-${digest}"`,
        'cache-control': 'public, max-age=31536000, immutable',
      })
      const pieces = pawl.seen.map(({ headers }) => headers.range).sort()
      t.strictSame(
        pieces,
        ['bytes=0-4194303', 'bytes=4194304-8388607', 'bytes=8388608-12582911'],
        'each piece once',
      )
      t.notMatch(JSON.stringify(pawl.seen) + cache.logs(), /a-secret/)

      const part = await ask(url, { range: 'bytes=4194300-4194310' })
      t.equal(part.status, 206)
      t.ok(part.body.equals(content.subarray(4_194_300, 4_194_311)))
      const rest = await ask(url, { range: 'bytes=9000000-' })
      t.ok(rest.body.equals(content.subarray(9_000_000)), 'a client that goes on')
      t.equal((await ask(url, {}, 'HEAD')).headers['content-length'], String(content.length))
      t.equal(pawl.seen.length, 3, 'all from the cache')
      for (const [where, method] of [
        ['/', 'GET'],
        ['/v1/boot/node1/handover?k=a-secret', 'GET'],
        [`${path}/`, 'GET'],
        [path, 'POST'],
      ] as const)
        t.ok(
          (await ask(`http://127.0.0.1:${cache.port}${where}`, {}, method)).status >= 403,
          `${method} ${where}`,
        )
      const unknown = path.replace(digest, 'ab'.repeat(32))
      t.equal((await ask(`http://127.0.0.1:${cache.port}${unknown}`)).status, 404)
      t.notMatch(cache.logs(), /a-secret/)
      t.equal(pawl.seen.length, 4, 'what Pawl has not got was asked, and is not kept')
      await storeProfile(pawl.world, { ...demoProfile, reinstall: demoProfile.boot })
      t.ok((await ask(url)).body.equals(content), 'what is in the cache stays there')

      await t.test('what the cache alters, the agent of the machine refuses, and asks Pawl', async (t) => {
        await storeProfile(pawl.world, { ...demoProfile, reinstall: demoProfile.boot, downloads: 'digest' })
        pawl.world.clock.advance(2)
        const before = pawl.seen.length
        t.match(
          await agent(url, `https://127.0.0.1:${pawl.port}`),
          /verified \(10 MiB in \d+ s, from a cache\)/,
        )
        t.equal(pawl.seen.length, before)
        t.ok(alter(join(cache.folder, 'cache')))
        const said = await agent(url, `https://127.0.0.1:${pawl.port}`)
        t.match(said, /filesystem: ALTERED: what the cache http:\/\/127\.0\.0\.1:\d+ sent has the SHA-256/)
        t.match(said, /filesystem verified \(10 MiB in \d+ s\)/)
        t.match(pawl.seen.slice(before), [
          { url: path, headers: { authorization: 'Bearer capability-token' } },
        ])
        t.notMatch(cache.logs(), /capability-token/)
      })
    },
  )

  await t.test(
    'nginx sends what Pawl allows, whole or in part, and nothing to who asks it alone',
    { skip },
    async (t) => {
      const pawl = await openPawl(t, openWorld, { acceptUnsigned: true })
      const names = { '=127.0.0.1:8443': `127.0.0.1:${pawl.port}`, 'boot.example.net': 'localhost' }
      const proxy = await startNginx(t, 'boot-proxy.conf', names)
      const { capability, session } = await boot(pawl.world, machineOf(pawl.secret), 'stage2')
      const url = `https://127.0.0.1:${proxy.port}/v1/boot/node1/artifacts/filesystem`
      const bearer = { authorization: `Bearer ${capability}` }

      for (const [where, headers] of [
        [`/pawl-artifacts/sha256/${digest}`, bearer],
        ['/pawl-artifacts/', {}],
        ['/v1/boot/node1/artifacts/filesystem', { authorization: 'Bearer x', 'pawl-accel': 'nginx' }],
      ] as const)
        t.ok(
          [403, 404].includes((await ask(`https://127.0.0.1:${proxy.port}${where}`, headers)).status),
          where,
        )

      const whole = await ask(`${url}?c=${capability}`)
      t.equal(whole.status, 200)
      t.ok(whole.body.equals(content))
      t.match(whole.headers, {
        etag: `"sha256-${digest}"`,
        'cache-control': 'no-store',
        'x-accel-redirect': undefined,
      })
      t.equal(whole.headers['last-modified'], undefined)
      const rest = await ask(url, { ...bearer, range: 'bytes=9000000-' })
      t.strictSame([rest.status, rest.body.equals(content.subarray(9_000_000))], [206, true])
      t.equal((await ask(url, { ...bearer, range: `bytes=${content.length}-` })).status, 416)
      t.equal((await ask(url, { ...bearer, 'if-none-match': `"sha256-${digest}"` })).status, 304)
      const head = await ask(url, bearer, 'HEAD')
      t.strictSame([head.status, head.headers['content-length']], [200, String(content.length)])
      await pawl.world.context.spans?.flush()
      const stages = await listStages(pawl.world.context.storage.db, session)
      const counted = Number(stages.find(({ stage }) => stage === 'stage2')?.bytes)
      t.equal(counted, content.length + content.length - 9_000_000, 'what nginx sent is counted')
      t.notMatch(proxy.logs(), new RegExp(capability))

      const direct = await ask(`https://127.0.0.1:${pawl.port}/v1/boot/node1/artifacts/filesystem`, bearer)
      t.ok(direct.body.equals(content), 'who does not say it is nginx gets the bytes from Pawl')
      t.equal(direct.headers['x-accel-redirect'], undefined)
    },
  )

  await t.test('a copy of the artifacts behind nginx', { skip }, async (t) => {
    const copy = await startNginx(t, 'artifacts.conf', {})
    const url = `http://127.0.0.1:${copy.port}/sha256/${digest}`
    const got = await ask(url)
    t.ok(got.body.equals(content))
    t.equal(got.headers['cache-control'], 'public, max-age=31536000, immutable')
    t.equal((await ask(url, { range: 'bytes=1-2' })).status, 206)
    for (const where of ['/', '/tmp/', '/sha256/', '/sha256/../tmp/'])
      t.equal((await ask(`http://127.0.0.1:${copy.port}${where}`)).status, 404, where)
    t.equal((await ask(url, {}, 'DELETE')).status, 403)
  })
})

/** Changes one byte of the largest file of the cache. */
function alter(folder: string): boolean {
  const files = readdirSync(folder, { recursive: true }).map((name) => join(folder, String(name)))
  const [largest] = files
    .filter((file) => statSync(file).isFile())
    .sort((a, b) => statSync(b).size - statSync(a).size)
  if (largest === undefined) return false
  const bytes = readFileSync(largest)
  bytes[bytes.length - 100] = (bytes[bytes.length - 100] ?? 0) ^ 1
  writeFileSync(largest, bytes)
  return true
}

/** The download of the agents' own library, with real curl; answers what it says. */
async function agent(mirror: string, pawl: string): Promise<string> {
  const run = mkdtempSync(join(shared, 'agent-'))
  const lib = join(import.meta.dirname, '../../images/lib')
  const library = readFileSync(join(lib, 'agent.sh'), 'utf8')
    .replace(/^RUN=.*$/m, `RUN=${run}`)
    .replaceAll('/usr/lib/pawl/', `${lib}/`)
  const handover = {
    version: 1,
    host: 'node1',
    session: 's',
    base: `${pawl}/v1/boot/node1`,
    ca,
    nic: {},
    tokens: { report: 'r' },
  }
  writeFileSync(join(run, 'handover.json'), JSON.stringify(handover))
  const script = `set -u
${library}
report_error() { echo "reported: $1"; }
show_progress() { :; }
read_handover
write_headers "$RUN/download.headers" capability-token
download filesystem '${pawl}${path}' ${digest} ${content.length} "$RUN/download.headers" "$RUN/out" '${mirror}'`
  const child = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'pipe'] })
  const [said, wrong] = await Promise.all([text(child.stdout), text(child.stderr)])
  return said + wrong
}
