import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import type { Digest } from '../../src/domain/digest.ts'
import { type ArtifactCache, type ArtifactLease, openArtifactCache } from '../../src/images/cache.ts'
import { memoryStore } from './memory-store.ts'

const sliceBytes = 10

/** All bytes of a lease from `position` to `end`; each slice is copied, since it is good only until the next. */
async function readAll(lease: ArtifactLease, position = 0, end = lease.size): Promise<Buffer> {
  const parts: Buffer[] = []
  for (let at = position; at < end; ) {
    const part = Buffer.from(await lease.slice(at, end))
    parts.push(part)
    at += part.length
  }
  return Buffer.concat(parts)
}

async function use(cache: ArtifactCache, digest: Digest): Promise<Buffer> {
  const lease = await cache.acquire(digest)
  try {
    return await readAll(lease)
  } finally {
    lease.release()
  }
}

t.test('refuses what is not stored, and asks again next time', async (t) => {
  const memory = memoryStore()
  const cache = openArtifactCache(memory.store)
  await t.rejects(cache.acquire('ab'.repeat(32) as Digest), { code: 'not-found' })
  const digest = memory.add(Buffer.from('here now'))
  t.equal((await use(cache, digest)).toString(), 'here now')
})

t.test('each lease is told by what the cache had for it', async (t) => {
  const memory = memoryStore()
  const answers: string[] = []
  const asked = (answer: string) => answers.push(answer)
  const cache = openArtifactCache(memory.store, { sliceBytes, maxBytes: 20, asked })
  const [small, large] = [memory.add(randomBytes(10)), memory.add(randomBytes(30))]
  await Promise.all([use(cache, small), use(cache, small)])
  await use(cache, small)
  await use(cache, large)
  await t.rejects(cache.acquire('ab'.repeat(32) as Digest), { code: 'not-found' })
  const holders = await Promise.all([cache.acquire(large), cache.acquire(large)])
  await Promise.all(holders.map((lease, n) => lease.slice(10 * n, 30)))
  await use(cache, small)
  t.strictSame(answers, ['miss', 'hit', 'hit', 'miss', 'passed'])
  for (const lease of holders) lease.release()
})

t.test('a read error fails those who wait for that slice; the next who asks reads again', async (t) => {
  const memory = memoryStore()
  const content = randomBytes(25)
  const cache = openArtifactCache(memory.store, { sliceBytes })
  const lease = await cache.acquire(memory.add(content))
  memory.failReads = (position) => position === 10
  const waiting = [lease.slice(10, 25), lease.slice(12, 25)]
  for (const result of await Promise.allSettled(waiting)) t.equal(result.status, 'rejected')
  t.strictSame(await lease.slice(0, 25), content.subarray(0, 10))
  memory.failReads = undefined
  t.strictSame(await readAll(lease), content)
  lease.release()
})

t.test('many first readers share one reading and one file', async (t) => {
  const memory = memoryStore()
  const content = randomBytes(25)
  const digest = memory.add(content)
  const cache = openArtifactCache(memory.store, { sliceBytes })
  const leases = await Promise.all(Array.from({ length: 20 }, () => cache.acquire(digest)))
  t.equal(memory.openFiles(), 1)
  for (const bytes of await Promise.all(leases.map((lease) => readAll(lease)))) t.strictSame(bytes, content)
  t.strictSame(memory.reads, [0, 10, 20])
  const [a, b] = [leases[0]!.slice(0, 25), leases[1]!.slice(0, 25)] // twenty leases
  t.ok(Buffer.isBuffer(a) && Buffer.isBuffer(b) && a.buffer === b.buffer, 'one buffer for all')
  for (const lease of leases) lease.release()
  t.strictSame(await use(cache, digest), content)
  t.equal(memory.openFiles(), 0)
  t.equal(memory.opens(), 1, 'what is in memory is not opened')
})

t.test('a part is read without reading the rest', async (t) => {
  const memory = memoryStore()
  const content = randomBytes(100)
  const cache = openArtifactCache(memory.store, { sliceBytes })
  const lease = await cache.acquire(memory.add(content))
  t.strictSame(await readAll(lease, 55, 72), content.subarray(55, 72))
  t.strictSame(memory.reads, [50, 60, 70])
  lease.release()
  await cache.close()
  t.equal(memory.openFiles(), 0)
})

t.test(
  'readers of a file larger than the memory read it together, into memory that is used again',
  async (t) => {
    const memory = memoryStore()
    const content = randomBytes(95)
    const cache = openArtifactCache(memory.store, { sliceBytes, maxBytes: 30 })
    const digest = memory.add(content)
    const leases = await Promise.all(Array.from({ length: 8 }, () => cache.acquire(digest)))
    const seen = new Set<ArrayBufferLike>()
    for (let at = 0; at < content.length; at += sliceBytes) {
      const slices = await Promise.all(leases.map((lease) => lease.slice(at, content.length)))
      for (const slice of slices) t.strictSame(slice, content.subarray(at, at + sliceBytes))
      for (const slice of slices) seen.add(slice.buffer)
    }
    t.equal(memory.reads.length, 10, 'each piece once for all eight')
    t.equal(seen.size, 4, 'three pieces, and the last one, which is shorter')
    t.ok(cache.bytes() <= 30)
    t.equal(memory.openFiles(), 1, 'one file for all its readers')
    for (const lease of leases) lease.release()
    await cache.close()
    t.equal(memory.openFiles(), 0)
  },
)

t.test('where all pieces are being sent, a reader reads for itself, and holds little', async (t) => {
  const memory = memoryStore()
  const content = randomBytes(3 * 2 ** 20)
  const cache = openArtifactCache(memory.store, { maxBytes: 2 ** 20 })
  const digest = memory.add(content)
  const [holder, alone] = [await cache.acquire(digest), await cache.acquire(digest)]
  const held = await holder.slice(0, 10)
  alone.readAhead(2 ** 20)
  const own = await alone.slice(2 ** 20, 3 * 2 ** 20)
  t.strictSame(own, content.subarray(2 ** 20, 2 ** 20 + 2 ** 16))
  t.strictSame(held, content.subarray(0, 10))
  t.strictSame(await readAll(alone), content)
  t.strictSame(held, content.subarray(0, 10), 'what is being sent stays')
  t.equal(cache.bytes(), 2 ** 20)
  holder.release()
  t.equal((await alone.slice(2 ** 20, 3 * 2 ** 20)).length, 2 ** 20, 'room again')
  alone.release()

  const off = openArtifactCache(memory.store, { maxBytes: 0 })
  t.strictSame(await use(off, digest), content)
  t.equal(off.bytes(), 0)
})

t.test('what is read ahead is there when it is asked for, and a failure is told then', async (t) => {
  const memory = memoryStore()
  const content = randomBytes(60)
  const cache = openArtifactCache(memory.store, { sliceBytes, maxBytes: 40 })
  const lease = await cache.acquire(memory.add(content))
  const first = await lease.slice(0, 10)
  lease.readAhead(10)
  lease.readAhead(15)
  t.strictSame(first, content.subarray(0, 10), 'the slice before is still good')
  t.strictSame(await lease.slice(10, 20), content.subarray(10, 20))
  t.strictSame(memory.reads, [0, 10], 'read once')
  memory.failReads = (position) => position === 50
  lease.readAhead(50)
  await t.rejects(async () => lease.slice(50, 60), /EIO/)
  memory.failReads = undefined
  t.strictSame(await lease.slice(50, 60), content.subarray(50, 60), 'and tried again')
  lease.readAhead(60)
  lease.readAhead(20)
  lease.release()
  t.equal(memory.openFiles(), 1, 'a reading that is under way ends')
  while (memory.openFiles() > 0) await new Promise(setImmediate)
  await cache.close()
  t.equal(cache.bytes(), 0)
})

t.test('an artifact that is removed while it is sent is sent to its end', async (t) => {
  const memory = memoryStore()
  const content = randomBytes(60)
  const digest = memory.add(content)
  const cache = openArtifactCache(memory.store, { sliceBytes, maxBytes: 20 })
  const lease = await cache.acquire(digest)
  await lease.slice(0, 10)
  await memory.store.remove(digest)
  t.strictSame(await readAll(lease), content)
  lease.release()
  await t.rejects(cache.acquire(digest), { code: 'not-found' })
})

t.test('the pieces that were not used for longest make room, never one that is being sent', async (t) => {
  const memory = memoryStore()
  const contents = ['a', 'b', 'c', 'd'].map((text) => Buffer.from(text.repeat(10)))
  const [a, b, c, d] = contents.map((content) => memory.add(content)) as [Digest, Digest, Digest, Digest]
  const cache = openArtifactCache(memory.store, { sliceBytes, maxBytes: 20 })
  const readsOf = async (digest: Digest) => {
    const before = memory.reads.length
    await use(cache, digest)
    return memory.reads.length - before
  }
  await use(cache, a)
  await use(cache, b)
  t.equal(await readsOf(a), 0)
  t.equal(await readsOf(c), 1)
  t.equal(await readsOf(a), 0, 'used after b')
  t.equal(await readsOf(b), 1, 'gone')

  t.comment('b is held: all others take turns in the place that is left')
  const held = await cache.acquire(b)
  const sent = await held.slice(0, 10)
  for (const digest of [c, d, a, c]) t.equal(await readsOf(digest), 1)
  t.equal(await readsOf(b), 0)
  t.strictSame(sent, contents[1])
  held.release()
  await cache.close()
  t.equal(cache.bytes(), 0)
  t.equal(memory.openFiles(), 0)
})

t.test(
  'whatever is asked for in whatever order: right bytes, bounded memory, no file left open',
  async () => {
    const step = fc.record({
      which: fc.nat(4),
      from: fc.nat(60),
      length: fc.integer({ min: 1, max: 60 }),
      fails: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const memory = memoryStore()
        const contents = [5, 20, 35, 50, 61].map((size) => randomBytes(size))
        const digests = contents.map((content) => memory.add(content))
        const cache = openArtifactCache(memory.store, { sliceBytes, maxBytes: 100 })
        const run = async ({ which, from, length, fails }: (typeof steps)[number]) => {
          const content = contents[which]! // five of them
          const lease = await cache.acquire(digests[which]!) // as many
          const end = Math.min(from + length, lease.size)
          try {
            memory.failReads = fails ? () => true : undefined
            const bytes = await readAll(lease, Math.min(from, end), end)
            if (!bytes.equals(content.subarray(Math.min(from, end), end))) throw new Error('wrong bytes')
            if (cache.bytes() > 100) throw new Error(`${cache.bytes()} bytes in memory`)
          } catch (error) {
            if (!(error as Error).message.startsWith('EIO')) throw error
          } finally {
            lease.release()
          }
        }
        await Promise.all(steps.map(run))
        await cache.close()
        return memory.openFiles() === 0 && cache.bytes() === 0
      }),
      { numRuns: 500 },
    )
  },
)
