import { once } from 'node:events'
import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { digestOf } from '../../src/domain/digest.ts'
import { openArtifactStore } from '../../src/images/artifacts.ts'

const content = Buffer.from('a small kernel')
const digest = digestOf(content)
const limits = { maxBytes: 1024 }

/** A store in a new folder, and what lies in it. */
async function openStore(t: Test) {
  const folder = join(t.testdir({}), 'artifacts')
  const store = await openArtifactStore(folder)
  return { folder, store, files: () => filesIn(folder) }
}

function filesIn(folder: string) {
  return { sha256: readdirSync(join(folder, 'sha256')), tmp: readdirSync(join(folder, 'tmp')) }
}

const empty = { sha256: [], tmp: [] }

async function* chunksOf(...chunks: (Buffer | Error)[]): AsyncGenerator<Buffer> {
  for (const chunk of chunks) {
    if (chunk instanceof Error) throw chunk
    yield chunk
  }
}

t.test('put refuses, and leaves nothing', async (t) => {
  const cases = [
    { name: 'bytes with another digest', bytes: [Buffer.from('a small kerneL')], code: 'digest-mismatch' },
    { name: 'no bytes at all', bytes: [], code: 'digest-mismatch' },
    { name: 'bytes behind the artifact', bytes: [content, Buffer.from('x')], code: 'digest-mismatch' },
    { name: 'a size that is not the announced one', bytes: [content], size: 15, code: 'digest-mismatch' },
    { name: 'more bytes than allowed', bytes: [content], maxBytes: 13, code: 'too-large' },
    { name: 'an upload that breaks off', bytes: [content, new Error('aborted')], code: 'invalid' },
  ]
  for (const { name, bytes, code, ...given } of cases) {
    await t.test(name, async (t) => {
      const { store, files } = await openStore(t)
      await t.rejects(store.put(digest, chunksOf(...bytes), { ...limits, ...given }), { code })
      t.equal(await store.has(digest), undefined)
      t.strictSame(files(), empty)
    })
  }
})

t.test('stops reading an upload that is too large', async (t) => {
  const { store } = await openStore(t)
  let sent = 0
  async function* endless() {
    for (; ; sent += 1) yield Buffer.alloc(100)
  }
  await t.rejects(store.put(digest, endless(), limits), { code: 'too-large' })
  t.equal(sent, 10)
})

t.test('leaves nothing when the client of an HTTP upload goes away', async (t) => {
  const { store, files } = await openStore(t)
  const server = createServer()
  t.teardown(() => server.close())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const client = request({ port, host: '127.0.0.1', method: 'PUT', headers: { 'content-length': 1000 } })
  client.on('error', () => undefined)
  client.write('half of it')
  const [upload] = await once(server, 'request')
  const put = store.put(digest, upload, limits)
  client.destroy()
  await t.rejects(put, { code: 'invalid', message: /broke off/ })
  t.strictSame(files(), empty)
})

t.test('a refused HTTP upload can still be answered', async (t) => {
  const { store } = await openStore(t)
  const upload = Readable.from([content, content])
  await t.rejects(store.put(digest, upload, { maxBytes: 1 }), { code: 'too-large' })
  t.equal(upload.destroyed, false)
})

t.test('open and verify refuse what is not stored', async (t) => {
  const { store } = await openStore(t)
  await t.rejects(store.open(digest), { code: 'not-found' })
  await t.rejects(store.verify(digest), { code: 'not-found' })
})

t.test('verify refuses a file that went bad', async (t) => {
  const { store, folder } = await openStore(t)
  await store.put(digest, chunksOf(content), limits)
  writeFileSync(join(folder, 'sha256', digest), 'a small kerneL')
  await t.rejects(store.verify(digest), { code: 'digest-mismatch' })

  t.comment('and storing it again heals it')
  await store.put(digest, chunksOf(content), limits)
  t.equal(await store.verify(digest), 14)
})

t.test('a read behind the end of a file that was cut fails', async (t) => {
  const { store, folder } = await openStore(t)
  await store.put(digest, chunksOf(content), limits)
  const artifact = await store.open(digest)
  truncateSync(join(folder, 'sha256', digest), 4)
  await t.rejects(artifact.read(Buffer.alloc(10), 0), { code: 'digest-mismatch', message: /ends at byte 4/ })
  await artifact.close()
})

t.test('stores, finds, reads and verifies an artifact', async (t) => {
  const { store, folder } = await openStore(t)
  const size = await store.put(digest, chunksOf(content.subarray(0, 5), content.subarray(5)), {
    ...limits,
    size: 14,
  })
  t.equal(size, 14)
  t.equal(await store.has(digest), 14)
  t.equal(await store.verify(digest), 14)
  const file = join(folder, 'sha256', digest)
  t.equal(readFileSync(file, 'utf8'), 'a small kernel')
  t.equal(statSync(file).mode & 0o137, 0, 'others can neither read nor write it')
  const artifact = await store.open(digest)
  const part = Buffer.alloc(5)
  await artifact.read(part, 2)
  t.equal(part.toString(), 'small')
  await artifact.close()
})

t.test('two uploads of one artifact at the same time both succeed and make one file', async (t) => {
  const { store, files } = await openStore(t)
  const sizes = await Promise.all([
    store.put(digest, chunksOf(content), limits),
    store.put(digest, chunksOf(content), limits),
  ])
  t.strictSame(sizes, [14, 14])
  t.strictSame(files(), { sha256: [digest], tmp: [] })
})
