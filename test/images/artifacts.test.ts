import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import t from 'tap'
import { type Digest, digestOf } from '../../src/domain/digest.ts'
import { type ArtifactStore, openArtifactStore } from '../../src/images/artifacts.ts'
import { openArtifactCache } from '../../src/images/cache.ts'
import { s3Suite } from './s3-suite.ts'
import { forEachStore, s3Skip } from './stores.ts'

const content = Buffer.from('a small kernel')
const digest = digestOf(content)
const limits = { maxBytes: 1024 }
const MiB = 2 ** 20

async function* chunksOf(...chunks: (Buffer | Error)[]): AsyncGenerator<Buffer> {
  for (const chunk of chunks) {
    if (chunk instanceof Error) throw chunk
    yield chunk
  }
}

/** The digests that a store lists, in order. */
async function listed(store: ArtifactStore): Promise<Digest[]> {
  const digests: Digest[] = []
  for await (const { digest } of store.list()) digests.push(digest)
  return digests.sort()
}

/** Bytes that differ everywhere, so that a part at the wrong place is seen. */
function bytesOfSize(size: number): Buffer {
  const bytes = Buffer.alloc(size)
  for (let at = 0; at + 4 <= size; at += 4) bytes.writeUInt32LE(at, at)
  return bytes
}

await forEachStore(t, async (t, openStore) => {
  await t.test('put refuses, and leaves nothing', async (t) => {
    const { store, spool } = await openStore(t)
    const cases = [
      { name: 'bytes with another digest', bytes: [Buffer.from('a small kerneL')], code: 'digest-mismatch' },
      { name: 'no bytes at all', bytes: [], code: 'digest-mismatch' },
      { name: 'bytes behind the artifact', bytes: [content, Buffer.from('x')], code: 'digest-mismatch' },
      { name: 'a size that is not the announced one', bytes: [content], size: 15, code: 'digest-mismatch' },
      { name: 'more bytes than allowed', bytes: [content], maxBytes: 13, code: 'too-large' },
      { name: 'an upload that breaks off', bytes: [content, new Error('aborted')], code: 'invalid' },
    ]
    for (const { name, bytes, code, ...given } of cases) {
      await t.rejects(store.put(digest, chunksOf(...bytes), { ...limits, ...given }), { code }, name)
      t.strictSame([await store.has(digest), await listed(store), spool()], [undefined, [], []], name)
    }
  })

  await t.test('a disk that is full in the middle is told, and nothing is left', async (t) => {
    for (const step of ['created', 'written', 'checked', 'synced'] as const) {
      const { store, spool } = await openStore(t, {
        faults: (at) => {
          if (at === step) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
        },
      })
      await t.rejects(store.put(digest, chunksOf(content), { sender: 'ci', size: 14 }), {
        code: 'disk-full',
        message: `no room on the server’s disk for artifact ${digest}`,
        hint: /^free space on that disk/,
      })
      t.strictSame([await store.has(digest), await listed(store), spool()], [undefined, [], []], step)
    }
  })

  await t.test('what is not stored is not found', async (t) => {
    const { store } = await openStore(t)
    t.equal(await store.has(digest), undefined)
    await t.rejects(store.open(digest), { code: 'not-found', message: `no artifact ${digest} is stored` })
    await t.rejects(store.verify(digest), { code: 'not-found', message: `no artifact ${digest} is stored` })
    await t.resolves(store.remove(digest), 'and removing it does nothing')
    t.strictSame(await listed(store), [])
  })

  await t.test('stores, finds, reads, verifies and removes an artifact', async (t) => {
    const { store, spool, again } = await openStore(t)
    const parts = chunksOf(content.subarray(0, 5), content.subarray(5))
    t.equal(await store.put(digest, parts, { ...limits, size: 14 }), 14)
    for (const each of [store, await again()]) {
      t.equal(await each.has(digest), 14)
      t.equal(await each.verify(digest), 14)
      const artifact = await each.open(digest)
      const part = Buffer.alloc(5)
      await artifact.read(part, 2)
      t.equal(part.toString(), 'small')
      await t.rejects(artifact.read(Buffer.alloc(13), 2), {
        code: 'digest-mismatch',
        message: /ends at byte 14/,
      })
      await artifact.close()
    }
    for await (const found of store.list()) {
      t.match(found, { digest, size: 14 })
      t.ok(Math.abs(found.modifiedAt.getTime() - Date.now()) < 60_000)
    }
    t.strictSame(await listed(store), [digest])
    t.strictSame(spool(), [])

    await store.remove(digest)
    t.strictSame([await store.has(digest), await listed(store)], [undefined, []])
  })

  await t.test('verify finds an artifact that went bad, and storing it again heals it', async (t) => {
    const { store, spoil } = await openStore(t)
    await store.put(digest, chunksOf(content), limits)
    await spoil(digest, Buffer.from('a small kerneL'))
    await t.rejects(store.verify(digest), { code: 'digest-mismatch' })
    await store.put(digest, chunksOf(content), limits)
    t.equal(await store.verify(digest), 14)
  })

  await t.test('an artifact that goes while it is read fails, and never gives other bytes', async (t) => {
    const { store, spoil } = await openStore(t)
    const bytes = bytesOfSize(3 * MiB)
    const large = digestOf(bytes)
    await store.put(large, chunksOf(bytes), {})
    const artifact = await store.open(large)
    await spoil(large, bytes.subarray(0, 2 * MiB))
    await t.rejects(artifact.read(Buffer.alloc(MiB), 2 * MiB), { message: /./ })
    const there = Buffer.alloc(100)
    await artifact.read(there, MiB)
    t.ok(there.equals(bytes.subarray(MiB, MiB + 100)))
    await artifact.close()
  })

  await t.test('two uploads of one artifact at the same time both succeed and make one', async (t) => {
    const { store, spool } = await openStore(t)
    const put = (sender: string) => store.put(digest, chunksOf(content), { sender, size: 14 })
    t.strictSame(await Promise.all([put('one'), put('two')]), [14, 14])
    t.strictSame([await listed(store), await store.verify(digest), spool()], [[digest], 14, []])
  })

  await t.test('what arrived before a break is gone on with behind a restart', async (t) => {
    const { store, again, spool } = await openStore(t)
    const broken = store.put(digest, chunksOf(content.subarray(0, 6), new Error('cut')), {
      sender: 'ci',
      size: 14,
    })
    await t.rejects(broken, { code: 'invalid' })
    const next = await again()
    t.strictSame([await next.has(digest), await next.received(digest, 'ci')], [undefined, 6])
    const rest = { sender: 'ci', offset: 6, size: 14 }
    t.equal(await next.put(digest, chunksOf(content.subarray(6)), rest), 14)
    t.strictSame([await next.verify(digest), spool()], [14, []])
  })

  await t.test(
    'one of many parts reads back as it was, anywhere, also for many readers at once',
    async (t) => {
      const { store } = await openStore(t)
      const bytes = bytesOfSize(21 * MiB + 5)
      const large = digestOf(bytes)
      t.equal(await store.put(large, Readable.from([bytes]), { size: bytes.length }), bytes.length)
      t.equal(await store.verify(large), bytes.length)
      const artifact = await store.open(large)
      const spots = [
        [0, 1],
        [0, MiB],
        [MiB, MiB],
        [MiB - 1, 2],
        [MiB + 7, 3 * MiB],
        [21 * MiB, 5],
        [bytes.length - 1, 1],
        [bytes.length, 0],
      ] as const
      const readers = Array.from({ length: 5 }, () => spots).flat()
      await Promise.all(
        readers.map(async ([position, length]) => {
          const part = Buffer.alloc(length)
          await artifact.read(part, position)
          t.ok(part.equals(bytes.subarray(position, position + length)), `${length} bytes at ${position}`)
        }),
      )
      await artifact.close()
    },
  )

  await t.test(
    'the cache in front reads what is too large for it, and has no more than it may',
    async (t) => {
      const { store } = await openStore(t)
      const bytes = bytesOfSize(2 * MiB + 100)
      const large = digestOf(bytes)
      await store.put(large, Readable.from([bytes]), {})
      for (const [maxBytes, kept] of [
        [0, 0],
        [99, 0],
        [MiB, 100], // the last megabyte but one made room
        [2 * MiB, MiB + 100],
        [3 * MiB, 2 * MiB + 100],
      ] as const) {
        const cache = openArtifactCache(store, { maxBytes })
        const lease = await cache.acquire(large)
        const parts: Buffer[] = []
        for (let position = 0; position < lease.size; ) {
          const slice = await lease.slice(position, Math.min(lease.size, position + 2 ** 16))
          parts.push(Buffer.from(slice))
          position += slice.length
        }
        lease.release()
        t.ok(Buffer.concat(parts).equals(bytes), `${maxBytes}`)
        t.equal(cache.bytes(), kept, `${maxBytes}`)
      }
    },
  )
})

await t.test('S3 alone', s3Skip(), s3Suite)

/** A store in a folder that the test can look into. */
async function openFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-store-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return { folder, store: await openArtifactStore(folder) }
}

t.test('stops reading an upload that is too large', async (t) => {
  const { store } = await openFolder()
  let sent = 0
  async function* endless() {
    for (; ; sent += 1) yield Buffer.alloc(100)
  }
  await t.rejects(store.put(digest, endless(), limits), { code: 'too-large' })
  t.equal(sent, 10)
})

t.test('keeps what an HTTP client sent before it went away', async (t) => {
  const { store } = await openFolder()
  const server = createServer()
  t.teardown(() => server.close())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const client = request({ port, host: '127.0.0.1', method: 'PUT', headers: { 'content-length': 1000 } })
  client.on('error', () => undefined)
  client.write('half of it')
  const [upload] = await once(server, 'request')
  const put = store.put(digest, upload, { sender: 'ci', size: 1000 })
  while ((await store.received(digest, 'ci')) < 10) await new Promise(setImmediate)
  client.destroy()
  await t.rejects(put, { code: 'invalid', message: /broke off/ })
  t.strictSame([await store.has(digest), await store.received(digest, 'ci')], [undefined, 10])
})

t.test('a refused HTTP upload can still be answered', async (t) => {
  const { store } = await openFolder()
  const upload = Readable.from([content, content])
  await t.rejects(store.put(digest, upload, { maxBytes: 1 }), { code: 'too-large' })
  t.equal(upload.destroyed, false)
})

t.test('in a folder an artifact is a file named by its digest, closed to others', async (t) => {
  const { store, folder } = await openFolder()
  await store.put(digest, chunksOf(content), limits)
  const file = join(folder, 'sha256', digest)
  t.equal(readFileSync(file, 'utf8'), 'a small kernel')
  t.equal(statSync(file).mode & 0o137, 0, 'others can neither read nor write it')
  const artifact = await store.open(digest)
  truncateSync(file, 4)
  await t.rejects(artifact.read(Buffer.alloc(10), 0), { code: 'digest-mismatch', message: /ends at byte 4/ })
  await artifact.close()
})
