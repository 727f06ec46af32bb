import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { createServer } from 'node:tls'
import { inspect } from 'node:util'
import { ListMultipartUploadsCommand } from '@aws-sdk/client-s3'
import type { Test } from 'tap'
import { digestOf } from '../../src/domain/digest.ts'
import { storeOver } from '../../src/images/artifacts.ts'
import { loadSdk, type S3Settings } from '../../src/images/s3-client.ts'
import { openS3Shelf } from '../../src/images/s3-store.ts'
import { openSpool } from '../../src/images/spool.ts'
import { createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { loadTls } from '../../src/pki/tls.ts'
import { startTcpProxy, type TcpProxy } from '../boot/helpers/tcp-proxy.ts'
import { startRadosgw } from '../helpers/radosgw.ts'
import { rawClient, temporaryFolder } from './stores.ts'

const MiB = 2 ** 20
const large = Buffer.alloc(20 * MiB, 'all of an image')
const digest = digestOf(large)

/** A bucket behind a forwarder that can be cut. */
async function openBucket(t: Test): Promise<{ settings: S3Settings; proxy: TcpProxy; secret: string }> {
  const settings = await (await startRadosgw()).createBucket()
  const proxy = await startTcpProxy(Number(new URL(settings.endpoint).port))
  t.teardown(() => proxy.close())
  const { secretAccessKey: secret } = settings.credentials
  return { settings: { ...settings, endpoint: `http://127.0.0.1:${proxy.port}` }, proxy, secret }
}

async function openStore(t: Test, settings: S3Settings, folder = temporaryFolder(t)) {
  const spool = await openSpool(folder)
  return { store: storeOver(await openS3Shelf(settings), spool), folder }
}

/** A CA with a certificate for 127.0.0.1. */
async function newCa(t: Test) {
  const folder = temporaryFolder(t)
  mkdirSync(join(folder, 'pki'))
  const now = new Date() // TLS looks at the real clock
  await createAuthority(folder, now)
  const authority = openAuthority(folder)
  const tls = (await loadTls(authority, { kind: 'boot', names: ['127.0.0.1'], now })).options()
  return { root: authority.rootCertificate, tls }
}

/** The same store behind TLS. */
async function serveTls(t: Test, port: number): Promise<{ endpoint: string; root: string }> {
  const { root, tls } = await newCa(t)
  const server = createServer(tls, (socket) => {
    const store = connect({ host: '127.0.0.1', port })
    for (const end of [socket, store]) end.on('error', () => end.destroy())
    t.teardown(() => socket.destroy()) // clients keep connections open
    socket.pipe(store).pipe(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return { endpoint: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, root }
}

async function unfinished(settings: S3Settings): Promise<number> {
  const answer = await rawClient(settings).send(new ListMultipartUploadsCommand({ Bucket: settings.bucket }))
  return answer.Uploads?.length ?? 0
}

/** What only an object store can do wrong. */
export async function s3Suite(t: Test): Promise<void> {
  await t.test('without the packages it says what to install', async (t) => {
    const load = async () => Promise.reject(new Error('ERR_MODULE_NOT_FOUND'))
    await t.rejects(loadSdk(load), {
      code: 'usage',
      hint: /^install the optional dependencies: npm install @aws-sdk\/client-s3 /,
    })
  })

  await t.test(
    'a wrong bucket, wrong keys and a store that is away are told apart, without a secret',
    async (t) => {
      const { settings, proxy, secret } = await openBucket(t)
      const faults: unknown[] = []
      const check = async (
        changed: Partial<S3Settings>,
        expected: { code: string; message: string | RegExp; hint?: RegExp },
      ) => {
        const shelf = await openS3Shelf({ ...settings, ...changed })
        await t.rejects(
          shelf.check().catch((error) => Promise.reject(faults.push(error) && error)),
          expected,
        )
      }
      await check(
        { bucket: 'another' },
        { code: 'usage', message: 'there is no bucket another at the object storage' },
      )
      const wrong = { accessKeyId: 'PAWLTESTACCESSKEY', secretAccessKey: `${secret}!` }
      await check(
        { credentials: wrong },
        { code: 'usage', message: /does not let us use the bucket bucket-\d+ \(HTTP 403\)/ },
      )
      const unknown = { accessKeyId: 'NOBODY', secretAccessKey: secret }
      await check({ credentials: unknown }, { code: 'usage', message: /HTTP 403/, hint: /credentials/ })
      proxy.setAway(true)
      await check(
        {},
        { code: 'store-unavailable', message: /^the object storage cannot be reached now \(ECONN/ },
      )
      await (await openStore(t, settings)).store.has(digest).catch((error) => faults.push(error))
      t.equal(faults.length, 5)
      t.notMatch(inspect(faults, { depth: 20, showHidden: true }), new RegExp(secret))
    },
  )

  await t.test('over HTTPS only a certificate of the CA that the settings name is believed', async (t) => {
    const { settings } = await openBucket(t)
    const own = await serveTls(t, Number(new URL(settings.endpoint ?? '').port))
    const other = await newCa(t)
    const secure = { ...settings, endpoint: own.endpoint }
    for (const ca of [undefined, other.root]) {
      const { store } = await openStore(t, { ...secure, ca })
      await t.rejects(store.has(digest), { code: 'store-unavailable', message: /CERT|UNABLE|SIGNATURE/ })
    }
    const { store } = await openStore(t, { ...secure, ca: own.root })
    t.equal(await store.put(digest, Readable.from([large]), {}), large.length)
    t.equal(await store.verify(digest), large.length)
    t.match(store.redirects, { origin: own.endpoint, ca: own.root })
  })

  await t.test(
    'where the store is away when an upload is whole, it waits, and is stored without another byte',
    async (t) => {
      const { settings, proxy } = await openBucket(t)
      const { store } = await openStore(t, settings)
      proxy.setAway(true)
      const put = { sender: 'ci', size: large.length }
      await t.rejects(store.put(digest, Readable.from([large]), put), {
        code: 'store-unavailable',
        retryAfterSeconds: 10,
      })
      t.equal(await store.received(digest, 'ci'), large.length)
      proxy.setAway(false)
      t.equal(await store.has(digest), undefined)
      const rest = { ...put, offset: large.length }
      t.equal(await store.put(digest, Readable.from([]), rest), large.length)
      t.equal(await store.verify(digest), large.length)
      t.equal(await store.received(digest, 'ci'), 0)
    },
  )

  await t.test('a read goes on where its connection broke', async (t) => {
    const { settings, proxy } = await openBucket(t)
    const { store } = await openStore(t, settings)
    await store.put(digest, Readable.from([large]), {})
    const artifact = await store.open(digest)
    const into = Buffer.alloc(8 * MiB)
    const held = proxy.holdAfter(3 * MiB)
    const verified = store.verify(digest)
    await held
    proxy.cut()
    t.equal(await verified, large.length)
    await artifact.read(into, MiB + 1)
    t.ok(into.equals(large.subarray(MiB + 1, 9 * MiB + 1)))
    proxy.setAway(true)
    await t.rejects(artifact.read(Buffer.alloc(MiB), 12 * MiB), { code: 'store-unavailable' })
    proxy.setAway(false)
    await t.resolves(artifact.read(Buffer.alloc(MiB), 12 * MiB), 'and the next reader asks again')
  })

  await t.test(
    'kill -9 while an upload goes to S3: nothing is visible, it goes on, and its parts are given up a day later',
    async (t) => {
      const { settings } = await openBucket(t)
      const { store, folder } = await openStore(t, settings)
      const child = spawn(process.execPath, [join(import.meta.dirname, 's3-crash-child.ts'), folder], {
        stdio: ['pipe', 'inherit', 'inherit'],
      })
      child.stdin.end(JSON.stringify({ ...settings, size: large.length, fill: 'all of an image' }))
      while ((await unfinished(settings)) === 0) await new Promise((resolve) => setTimeout(resolve, 5))
      child.kill('SIGKILL')
      await once(child, 'exit')

      t.equal(await store.has(digest), undefined)
      t.equal(await store.received(digest, 'ci'), large.length)
      const rest = { sender: 'ci', offset: large.length, size: large.length }
      t.equal(await store.put(digest, Readable.from([]), rest), large.length)
      t.equal(await store.verify(digest), large.length)

      const now = Date.now()
      await store.tidy(new Date(now))
      t.equal(await unfinished(settings), 1, 'it may be of an upload under way')
      await store.tidy(new Date(now + 24 * 3600_000 + 60_000))
      t.equal(await unfinished(settings), 0)
      t.equal(await store.has(digest), large.length)
    },
  )

  await t.test('a signed URL opens one artifact, for GET, for its time', async (t) => {
    const { settings, secret } = await openBucket(t)
    const { store } = await openStore(t, settings)
    const small = Buffer.from('a small kernel')
    await store.put(digestOf(small), Readable.from([small]), {})
    await store.put(digest, Readable.from([large]), {})
    const publicEndpoint = settings.endpoint?.replace('127.0.0.1', 'localhost')
    const shelf = await openS3Shelf({ ...settings, publicEndpoint })
    const url = new URL(await shelf.redirects.urlOf(digestOf(small)))
    t.strictSame([url.origin, shelf.redirects.origin], [publicEndpoint, publicEndpoint])
    t.equal(url.searchParams.get('X-Amz-Expires'), '900')
    t.notMatch(url.href, new RegExp(secret))
    t.equal(await (await fetch(url)).text(), 'a small kernel')
    const part = await fetch(url, { headers: { range: 'bytes=2-6' } })
    t.strictSame([part.status, await part.text()], [206, 'small'])

    for (const method of ['HEAD', 'PUT', 'DELETE'])
      t.equal((await fetch(url, { method })).status, 403, method)
    const other = new URL(url.href.replace(digestOf(small), digest))
    t.equal((await fetch(other)).status, 403, 'another artifact')
    const longer = new URL(url.href.replace('Expires=900', 'Expires=9000'))
    t.equal((await fetch(longer)).status, 403, 'a longer time')
    const bare = await fetch(`${url.origin}${url.pathname}`)
    t.equal(bare.status, 403, 'without a signature')
    t.equal(await store.verify(digestOf(small)), 14)
  })
}
