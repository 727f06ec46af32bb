import { execFile, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { connect } from 'node:tls'
import type { FastifyInstance } from 'fastify'
import pino from 'pino'
import t, { type Test } from 'tap'
import { type Download, openDownload } from '../../src/boot/download.ts'
import { mayTransfer, runTransfer } from '../../src/boot/transfer.ts'
import { canonicalJson } from '../../src/domain/canonical-json.ts'
import { type Digest, digestOf } from '../../src/domain/digest.ts'
import { manifestDigest, parseManifest } from '../../src/domain/image.ts'
import { checkCms } from '../../src/domain/signature.ts'
import { disableNode } from '../../src/fleet/nodes.ts'
import { openStory } from '../../src/fleet/open-story.ts'
import { buildBootListener } from '../../src/http/boot-listener.ts'
import { openGate } from '../../src/http/gate.ts'
import { type ArtifactStore, openArtifactStore } from '../../src/images/artifacts.ts'
import { openArtifactCache } from '../../src/images/cache.ts'
import { createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { loadTls } from '../../src/pki/tls.ts'
import { insertImage } from '../../src/storage/images.ts'
import { findSession, listEndedOf, listStages } from '../../src/storage/sessions.ts'
import { demoProfile, storeNode, storeProfile, storeTestSignature } from '../helpers/fleet.ts'
import { boot, machineOf } from '../helpers/machine.ts'
import { signingKeyOf, testPublisher } from '../helpers/signing.ts'
import { smallKernel } from '../helpers/small-image.ts'
import { until } from '../helpers/until.ts'
import { forEachDatabase, type OpenWorld, type World, worldBegins } from '../helpers/world.ts'

const MiB = 2 ** 20
const files = {
  kernel: smallKernel().bytes,
  initramfs: randomBytes(300_001),
  filesystem: randomBytes(48 * MiB),
}
type Role = keyof typeof files
const digests: Readonly<Record<Role, Digest>> = {
  kernel: digestOf(files.kernel),
  initramfs: digestOf(files.initramfs),
  filesystem: digestOf(files.filesystem),
}

const noCurl = spawnSync('curl', ['--version']).error === undefined ? undefined : 'curl is not installed'
const needsCurl = noCurl !== undefined && process.env.PAWL_REQUIRE !== 'all' ? { skip: noCurl } : {}

/** One CA and one store for all tests of this file: keys and syncs cost seconds. */
const shared = t.testdir({ data: { pki: {} } })
const pki = join(shared, 'data')
await createAuthority(pki, worldBegins)
const authority = openAuthority(pki)
const tls = (await loadTls(authority, { kind: 'boot', names: ['127.0.0.1'], now: worldBegins })).options()
const ca = authority.rootCertificate
const store = await openArtifactStore(join(shared, 'artifacts'))
await storeFiles()

async function storeFiles(): Promise<void> {
  for (const role of ['kernel', 'initramfs', 'filesystem'] as const) {
    await store.put(digests[role], Readable.from([files[role]]), { maxBytes: 64 * MiB })
  }
}

interface Site {
  readonly world: World
  readonly app: FastifyInstance
  readonly secret: string
  readonly lines: string[]
  /** Artifacts opened so far. */
  readonly opened: () => number
  /** Downloads that have a place now. */
  readonly places: () => number
  readonly url: string
}

/** A boot listener on a port of its own, with two images whose files are there and the machine `node1`. */
async function openSite(t: Test, openWorld: OpenWorld): Promise<Site> {
  const world = await openWorld()
  await publish(world, 'small@1', ['kernel', 'initramfs'])
  await publish(world, 'full@1', ['kernel', 'initramfs', 'filesystem'])
  await storeProfile(world, { ...demoProfile, reinstall: demoProfile.boot })
  const secret = await storeNode(world, { name: 'node1' })
  let opened = 0
  const counted: ArtifactStore = {
    ...store,
    open: (digest) => {
      opened += 1
      return store.open(digest)
    },
  }
  const cache = openArtifactCache(counted)
  const lines: string[] = []
  const gate = openGate({ limits: { maxConnections: 100 } })
  const app = buildBootListener(openStory(world.context), {
    tls,
    gate,
    log: pino({}, { write: (line: string) => void lines.push(line) }),
    limits: { maxBodyBytes: 65_536, requestTimeoutSeconds: 15, idleTimeoutSeconds: 15, maxConnections: 100 },
    trustedProxies: [],
    artifacts: cache,
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(async () => {
    app.server.closeAllConnections()
    await app.close()
    gate.close()
    await cache.close()
  })
  const url = `https://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  const places = (): number => gate.admission.stats().downloads
  return { world, app, secret, lines, opened: () => opened, places, url }
}

async function publish(world: World, ref: string, roles: Role[]): Promise<void> {
  const [name, version] = ref.split('@')
  const manifest = parseManifest({
    schema: 'pawl.image/v1',
    name,
    version,
    arch: 'x86_64',
    kernelArguments: 'quiet',
    artifacts: roles.map((role) => ({
      role,
      digest: digests[role],
      size: files[role].length,
      mediaType: 'application/octet-stream',
    })),
  })
  const row = {
    name: manifest.name,
    version: manifest.version,
    manifest: canonicalJson(manifest),
    digest: manifestDigest(manifest),
    created_at: world.clock.now().toISOString(),
    created_by: 'test',
  }
  await world.context.storage.transaction((tx) => insertImage(tx, row))
  await storeTestSignature(world, row)
}

/** Sends a request over TLS; the body is read only when asked for. */
async function ask(url: string, method = 'GET', headers: Record<string, string> = {}, agent?: Agent) {
  const asked = request(url, { method, headers, ca, agent: agent ?? false }).end()
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  return { status: response.statusCode, headers: response.headers, response, body: () => buffer(response) }
}

const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` })

async function bytesOf({ world }: Site, session: string): Promise<Record<string, number>> {
  await world.context.spans?.flush()
  const stages = await listStages(world.context.storage.db, session)
  return Object.fromEntries(stages.map(({ stage, bytes }) => [stage, Number(bytes)]))
}

/** Waits until no transfer is registered any more. */
async function allOver({ world }: Site): Promise<void> {
  while (world.context.transfers.count() > 0) await new Promise(setImmediate)
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('GET and HEAD are refused alike without the right capability', async (t) => {
    const site = await openSite(t, openWorld)
    const { world, secret, url } = site
    await storeNode(world, { name: 'node2' })
    const machine = machineOf(secret)
    const first = await boot(world, machine, 'handover')
    const base = `${url}/v1/boot/node1/artifacts`
    const other = `${first.capability.slice(0, 12)}${'A'.repeat(32)}`
    const table: [string, string, Record<string, string>][] = [
      ['no capability', `${base}/kernel`, {}],
      ['an empty one', `${base}/kernel?c=`, {}],
      ['two of them', `${base}/kernel?c=${first.capability}&c=${first.capability}`, {}],
      ['a malformed one', `${base}/kernel?c=x`, {}],
      ['an unknown one', `${base}/kernel?c=${'A'.repeat(44)}`, {}],
      ['a wrong secret', `${base}/kernel`, bearer(other)],
      ['another node', `${url}/v1/boot/node2/artifacts/kernel`, bearer(first.capability)],
      ['an unknown node', `${url}/v1/boot/nobody/artifacts/kernel`, bearer(first.capability)],
      ['the stage-2 token', `${base}/kernel`, bearer(first.stage2)],
      ['the report token', `${base}/kernel?c=${first.report}`, {}],
      ['a role the image has not', `${base}/filesystem`, bearer(first.capability)],
      ['no capability for a signature', `${base}/kernel.sig`, {}],
      ['a signature of a role the image has not', `${base}/filesystem.sig`, bearer(first.capability)],
      ['a signature of a signature', `${base}/kernel.sig.sig`, bearer(first.capability)],
      ['a path for a role', `${base}/..%2f..%2fetc%2fpasswd`, bearer(first.capability)],
      ['a wrong header beside a good query', `${base}/kernel?c=${first.capability}`, bearer(other)],
    ]
    for (const method of ['GET', 'HEAD']) {
      for (const [what, target, headers] of table) {
        const answer = await ask(target, method, headers)
        t.equal(answer.status, 403, `${method} with ${what}`)
        t.equal((await answer.body()).toString(), method === 'GET' ? 'refused\n' : '')
        t.equal(answer.headers['cache-control'], 'no-store')
      }
    }
    t.equal((await world.kinds({ kind: 'refused' })).length, 2 * table.length, 'each is on the record')
    t.equal((await ask(`${base}/kernel?c=${first.capability}`, 'POST')).status, 404)

    await boot(world, machine, 'handover') // repeated at once: supersedes the session before
    t.equal((await ask(`${base}/kernel?c=${first.capability}`)).status, 403, 'its session is superseded')
    t.equal(site.opened(), 0)
    t.strictSame(await bytesOf(site, first.session), { stage1: 0 })
  })

  await t.test('serves the signature of an artifact to whoever may load the artifact', async (t) => {
    const { world, secret, url } = await openSite(t, openWorld)
    const { capability } = await boot(world, machineOf(secret), 'stage1')
    const target = `${url}/v1/boot/node1/artifacts/kernel.sig?c=${capability}`
    const { status, headers, body } = await ask(target)
    t.match(
      [status, headers['content-type'], headers['cache-control']],
      [200, 'application/pkcs7-signature', 'no-store'],
    )
    const der = await body()
    t.equal(headers['content-length'], String(der.length))
    checkCms(der, 'kernel', digests.kernel, signingKeyOf(await testPublisher()).chain)
    const head = await ask(target, 'HEAD')
    t.match([head.status, head.headers['content-length']], [200, String(der.length)])
  })

  await t.test('a capability ends when the next stage is redeemed', async (t) => {
    const { world, secret, url } = await openSite(t, openWorld)
    const base = `${url}/v1/boot/node1/artifacts`
    const begin = await boot(world, machineOf(secret), 'handover')
    t.equal((await ask(`${base}/kernel`, 'HEAD', bearer(begin.capability))).status, 200)
    world.clock.advance(31)
    const learnt = await boot(world, machineOf(secret), 'stage3')
    t.equal((await ask(`${base}/filesystem`, 'HEAD', bearer(learnt.capability))).status, 403)
    t.match((await world.events({ kind: 'refused' })).at(-1)?.detail, { cause: 'retired-token' })
  })

  await t.test(
    'a file that is missing or was cut is a failure of ours, on the log by its digest',
    async (t) => {
      const { world, secret, url, lines } = await openSite(t, openWorld)
      const { capability } = await boot(world, machineOf(secret), 'stage2')
      truncateSync(join(shared, 'artifacts', 'sha256', digests.initramfs), 1000)
      t.teardown(storeFiles)
      const answer = await ask(`${url}/v1/boot/node1/artifacts/initramfs`, 'GET', bearer(capability))
      t.equal(answer.status, 500)
      t.equal((await answer.body()).toString(), 'the initramfs cannot be read now\n')
      t.equal(answer.headers['cache-control'], 'no-store')
      t.match(lines.join(''), new RegExp(digests.initramfs))
      t.equal(world.context.transfers.count(), 0)
      t.strictSame(await world.kinds({ kind: 'refused' }), [])
    },
  )

  await t.test('ending a session cuts what is being sent, and what was sent is counted', async (t) => {
    const site = await openSite(t, openWorld)
    const { world, secret, url } = site
    const learnt = await boot(world, machineOf(secret), 'stage2')
    const target = `${url}/v1/boot/node1/artifacts/filesystem?c=${learnt.capability}`
    const readers = await Promise.all([ask(target), ask(target)])
    for (const { response } of readers) await once(response, 'readable') // and reads no more
    t.equal(world.context.transfers.count(), 2)
    world.clock.advance(31)
    await boot(world, machineOf(secret), 'stage1')
    for (const { body } of readers) await t.rejects(body(), { code: 'ECONNRESET' })
    await allOver(site)
    const { stage2 = 0 } = await bytesOf(site, learnt.session)
    t.ok(stage2 > 0 && stage2 < 2 * files.filesystem.length, `${stage2} bytes`)
  })

  await t.test('disabling a node cuts what is being sent, also when its session is ready', async (t) => {
    for (const sessionState of ['stage2', 'ready'] as const) {
      const site = await openSite(t, openWorld)
      const { world, secret, url } = site
      const { context } = world
      const learnt = await boot(world, machineOf(secret), 'stage2')
      const target = `${url}/v1/boot/node1/artifacts/filesystem?c=${learnt.capability}`
      const reader = await ask(target)
      await once(reader.response, 'readable') // and reads no more
      const download = { session: learnt.session } as Download // of which only that is looked at
      if (sessionState === 'ready') {
        const ended = { state: sessionState, ended_at: world.clock.now().toISOString() }
        await context.storage.db.updateTable('sessions').set(ended).execute()
        await context.storage.db.updateTable('nodes').set({ state: 'ready' }).execute()
      }
      t.equal(await mayTransfer(context, download), true, sessionState)
      await disableNode(context, { actor: 'operator:ann', source: null, role: 'admin' }, 'node1')
      await t.rejects(reader.body(), { code: 'ECONNRESET' }, sessionState)
      await allOver(site)
      t.equal(await mayTransfer(context, download), false, 'nor by a process that did not hear of it')
      t.strictSame(await listEndedOf(context.storage.db, [learnt.session]), [learnt.session])
    }
  })

  await t.test('a client that goes away is counted and leaves nothing', async (t) => {
    const site = await openSite(t, openWorld)
    const { world, secret, url, lines } = site
    const { capability, session } = await boot(world, machineOf(secret), 'stage2')
    const answer = await ask(`${url}/v1/boot/node1/artifacts/filesystem`, 'GET', bearer(capability))
    await once(answer.response, 'readable')
    answer.response.destroy()
    await allOver(site)
    const { stage2 = 0 } = await bytesOf(site, session)
    t.ok(stage2 > 0 && stage2 < files.filesystem.length, `${stage2} bytes`)
    t.notMatch(lines.join(''), /"level":(40|50)/, 'it is not worth a warning')
  })

  await t.test(
    'downloads that were asked for ahead give their places back with their connection',
    async (t) => {
      const { world, app, secret, places } = await openSite(t, openWorld)
      const { capability } = await boot(world, machineOf(secret), 'stage2')
      const { port } = app.server.address() as AddressInfo
      const socket = connect({ host: '127.0.0.1', port, ca }).on('error', () => {})
      const path = `/v1/boot/node1/artifacts/filesystem?c=${capability}`
      socket.write(`GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`.repeat(4))
      await until(t, async () => places(), 4)
      socket.destroy()
      await until(t, async () => [places(), world.context.transfers.count()], [0, 0])
    },
  )

  await t.test('a session that ends unseen by this process cuts its transfers', async (t) => {
    const { world, secret } = await openSite(t, openWorld)
    const { context } = world
    const { capability, session } = await boot(world, machineOf(secret), 'stage2')
    const asking = { host: 'node1', source: '192.0.2.10', request: 'artifacts' }
    const download = await openDownload(context, { ...asking, role: 'kernel', capability })
    const lastSeen = async () => (await findSession(context.storage.db, session))?.last_seen_at
    const opened = await lastSeen()
    const end = (state: 'superseded' | 'ready') =>
      context.storage.db
        .updateTable('sessions')
        .set({ state, ended_at: world.clock.now().toISOString() })
        .where('id', '=', session)
        .execute()
    const errors: unknown[] = []

    type Done = (cuts: number) => Promise<boolean>

    /** Runs a transfer that makes progress when it is told to; answers how often it was cut. */
    async function run(progress: (step: (done?: Done) => Promise<void>) => Promise<void>): Promise<number> {
      let cuts = 0
      await runTransfer(openStory(context), download, {
        cut: () => {
          cuts += 1
        },
        onError: (error) => errors.push(error),
        send: async (onProgress) => {
          await progress(async (done = () => Promise.resolve(false)) => {
            onProgress()
            // The renewal runs beside the sending, on SQLite before this query and on PostgreSQL on another connection.
            const turns = done.length === 0 ? 20 : 5000
            for (let turn = 0; turn < turns && !(await done(cuts)); turn += 1)
              await findSession(context.storage.db, session)
          })
          return 0
        },
      })
      return cuts
    }

    await t.test('its progress renews the idle timer once a minute', async (t) => {
      const cuts = await run(async (step) => {
        world.clock.advance(59)
        await step()
        t.equal(await lastSeen(), opened)
        world.clock.advance(1)
        const now = world.clock.now().toISOString()
        await step(async (_cuts) => (await lastSeen()) === now)
        t.equal(await lastSeen(), now)
      })
      t.equal(cuts, 0)
    })
    await t.test('not when it became ready', async (t) => {
      await end('ready')
      t.equal(await run(async () => undefined), 0)
      await context.storage.db.updateTable('sessions').set({ state: 'stage2', ended_at: null }).execute()
    })
    await t.test('while they run', async (t) => {
      const cuts = await run(async (step) => {
        await end('superseded')
        world.clock.advance(60)
        await step(async (cuts) => cuts === 1)
      })
      t.equal(cuts, 1)
    })
    await t.test('before they begin', async (t) => {
      t.equal(await run(async () => undefined), 1)
    })
    t.strictSame(errors, [])
    t.equal(context.transfers.count(), 0)
  })

  await t.test('serves whole and partial artifacts on one connection, and counts them', async (t) => {
    const site = await openSite(t, openWorld)
    const { world, secret, url } = site
    const { capability, session } = await boot(world, machineOf(secret), 'handover')
    const target = `${url}/v1/boot/node1/artifacts/initramfs?c=${capability}`
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ca })
    t.teardown(() => agent.destroy())
    const [bytes, size] = [files.initramfs, files.initramfs.length]
    const nothing = Buffer.alloc(0)
    const etag = `"sha256-${digests.initramfs}"`

    const head = await ask(target, 'HEAD', {}, agent)
    t.equal(head.status, 200)
    t.match(head.headers, {
      'content-length': String(size),
      'accept-ranges': 'bytes',
      'content-type': 'application/octet-stream',
      'cache-control': 'no-store',
      'repr-digest': `sha-256=:${Buffer.from(digests.initramfs, 'hex').toString('base64')}:`,
      etag,
    })
    await head.body() // gives the connection back
    const unchanged = await ask(target, 'HEAD', { 'if-none-match': etag }, agent)
    t.equal(unchanged.status, 304)
    await unchanged.body()
    t.equal(site.opened(), 0, 'HEAD reads no file')
    const table: [Record<string, string>, number, Buffer, Record<string, unknown>][] = [
      [
        { range: `bytes=${size}-` },
        416,
        nothing,
        { 'content-range': `bytes */${size}`, 'content-length': '0' },
      ],
      [{ 'if-match': '"x"' }, 412, nothing, {}],
      [{ 'if-none-match': etag }, 304, nothing, { etag }],
      [{}, 200, bytes, { 'content-length': String(size) }],
      [{ range: 'bytes=0-' }, 206, bytes, { 'content-range': `bytes 0-${size - 1}/${size}` }],
      [{ range: 'bytes=65535-65536' }, 206, bytes.subarray(65_535, 65_537), { 'content-length': '2' }],
      [{ range: 'bytes=-7', 'if-range': etag }, 206, bytes.subarray(-7), {}],
      [{ range: 'bytes=-7', 'if-range': '"x"' }, 200, bytes, { 'content-range': undefined }],
      [{ range: 'bytes=0-0,5-6' }, 200, bytes, {}],
    ]
    let sent = 0
    const sockets = new Set<unknown>()
    for (const [headers, status, expected, shown] of table) {
      const answer = await ask(target, 'GET', headers, agent)
      sockets.add(answer.response.socket)
      t.equal(answer.status, status, JSON.stringify(headers))
      t.ok((await answer.body()).equals(expected))
      t.match({ 'content-range': undefined, ...answer.headers }, { ...shown, 'cache-control': 'no-store' })
      sent += expected.length
    }
    await allOver(site)
    t.strictSame(await bytesOf(site, session), { stage1: sent })
    t.equal(sockets.size, 1, 'the connection was kept')
  })

  await t.test(
    'by digest, only what a profile opens is served, and only the artifact is cacheable',
    async (t) => {
      const site = await openSite(t, openWorld)
      const { world, url } = site
      const target = `${url}/v1/artifacts/sha256/${digests.initramfs}`
      for (const method of ['GET', 'HEAD']) {
        const answer = await ask(target, method)
        t.equal(answer.status, 404, `${method}: its profile keeps it to sessions`)
        t.equal(answer.headers['cache-control'], 'no-store')
      }
      await storeProfile(world, { ...demoProfile, reinstall: demoProfile.boot, downloads: 'digest' })
      world.clock.advance(1) // what was found is kept for a second
      for (const path of ['a'.repeat(64), digests.initramfs.toUpperCase(), '..%2f..%2fetc%2fpasswd', 'x']) {
        t.equal((await ask(`${url}/v1/artifacts/sha256/${path}`)).status, 404, path)
      }
      const etag = `"sha256-${digests.initramfs}"`
      const forever = 'public, max-age=31536000, immutable'
      const table: [string, Record<string, string>, number, string][] = [
        ['GET', { range: 'bytes=9999999-' }, 416, 'no-store'],
        ['GET', { 'if-match': '"x"' }, 412, 'no-store'],
        ['HEAD', { 'if-match': '"x"' }, 412, 'no-store'],
        ['GET', {}, 200, forever],
        ['HEAD', {}, 200, forever],
        ['GET', { range: 'bytes=1-2' }, 206, forever],
        ['GET', { 'if-none-match': etag }, 304, forever],
      ]
      for (const [method, headers, status, cacheControl] of table) {
        const answer = await ask(target, method, headers)
        await answer.body()
        t.equal(answer.status, status, `${method} ${JSON.stringify(headers)}`)
        t.equal(answer.headers['cache-control'], cacheControl)
      }
      t.equal(world.context.transfers.count(), 0)
      t.strictSame(await world.kinds(), [])
    },
  )

  await t.test('curl resumes, takes ranges and asks on condition', needsCurl, async (t) => {
    const { world, secret, url } = await openSite(t, openWorld)
    const { capability } = await boot(world, machineOf(secret), 'stage2')
    const folder = t.testdir({})
    mkdirSync(join(folder, 'out'))
    const out = join(folder, 'out', 'file')
    const header = join(folder, 'header')
    const target = `${url}/v1/boot/node1/artifacts/filesystem`
    const curl = (...args: string[]) =>
      new Promise<{ code: number; text: string }>((resolve) => {
        const common = [
          '-sS',
          '--max-time',
          '60',
          '--cacert',
          join(pki, 'ca.crt'),
          '-w',
          '%{http_code} %{size_download}',
        ]
        execFile('curl', [...common, '-H', `@${header}`, ...args, target], (error, text) =>
          resolve({ code: error === null ? 0 : Number(error.code), text }),
        )
      })
    const { length } = files.filesystem

    writeFileSync(header, 'Authorization: Bearer x\n')
    t.match(await curl('-f', '-o', out), { code: 22, text: /^403 / })
    writeFileSync(header, `Authorization: Bearer ${capability}\n`)

    t.strictSame(await curl('-o', out), { code: 0, text: `200 ${length}` })
    t.ok(readFileSync(out).equals(files.filesystem))

    truncateSync(out, 12_345_678)
    t.strictSame(await curl('-C', '-', '-o', out), { code: 0, text: `206 ${length - 12_345_678}` })
    t.ok(readFileSync(out).equals(files.filesystem), 'the rest fits what was there')

    t.strictSame(await curl('-r', '100-199', '-o', out), { code: 0, text: '206 100' })
    t.ok(readFileSync(out).equals(files.filesystem.subarray(100, 200)))
    t.strictSame(await curl('-H', `If-None-Match: "sha256-${digests.filesystem}"`, '-o', out), {
      code: 0,
      text: '304 0',
    })
    t.match(await curl('-I'), { code: 0, text: new RegExp(`content-length: ${length}\\r`, 'i') })
    for (const version of ['--tlsv1.3', '--tls-max']) {
      const args = version === '--tls-max' ? [version, '1.2'] : [version]
      t.strictSame(await curl(...args, '-o', '/dev/null'), { code: 0, text: `200 ${length}` })
    }
  })
})
