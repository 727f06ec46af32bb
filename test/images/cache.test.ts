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

t.test('each lease is told as found, fetched, or passed for want of room', async (t) => {
  const memory = memoryStore()
  const answers: string[] = []
  const cache = openArtifactCache(memory.store, { maxBytes: 30, asked: (answer) => answers.push(answer) })
  const [small, large] = [memory.add(randomBytes(10)), memory.add(randomBytes(20))]
  await Promise.all([use(cache, small), use(cache, small)])
  await use(cache, small)
  await use(cache, large)
  await use(cache, large)
  await t.rejects(cache.acquire('ab'.repeat(32) as Digest), { code: 'not-found' })
  t.strictSame(answers, ['miss', 'hit', 'hit', 'passed', 'passed'])
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
  t.equal(memory.openFiles(), 0, 'closed when all of it is in memory')
  const [a, b] = [leases[0]!.slice(0, 25), leases[1]!.slice(0, 25)] // twenty leases
  t.ok(Buffer.isBuffer(a) && Buffer.isBuffer(b) && a.buffer === b.buffer, 'one buffer for all')
  for (const lease of leases) lease.release()
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

t.test('what is larger than half of the memory is read from its file each time', async (t) => {
  const memory = memoryStore()
  const content = randomBytes(51)
  const digest = memory.add(content)
  const cache = openArtifactCache(memory.store, { sliceBytes, maxBytes: 100 })
  const leases = await Promise.all([cache.acquire(digest), cache.acquire(digest)])
  const read = await Promise.all(leases.map((lease) => readAll(lease)))
  t.strictSame(read, [content, content], 'readers do not share what they read into')
  t.equal(cache.bytes(), 0)
  t.equal(memory.reads.length, 12)
  t.equal(memory.openFiles(), 1, 'one file for all its readers')
  for (const lease of leases) lease.release()
  t.equal(memory.openFiles(), 0)
})

t.test('what is read ahead is what comes next, or is thrown away', async (t) => {
  const memory = memoryStore()
  const content = randomBytes(60)
  const cache = openArtifactCache(memory.store, { sliceBytes, maxBytes: 100 })
  const lease = await cache.acquire(memory.add(content))
  t.equal(lease.inMemory, false)
  const first = await lease.slice(0, 10)
  lease.readAhead(10, 20)
  lease.readAhead(30, 40)
  t.strictSame(Buffer.from(first), content.subarray(0, 10), 'the slice before is still good')
  t.strictSame(Buffer.from(await lease.slice(10, 20)), content.subarray(10, 20))
  t.strictSame(memory.reads, [0, 10], 'one at a time, and read once')
  lease.readAhead(20, 30)
  t.strictSame(Buffer.from(await lease.slice(40, 50)), content.subarray(40, 50), 'asked for elsewhere')
  memory.failReads = (position) => position === 50
  lease.readAhead(50, 60)
  await t.rejects(async () => lease.slice(50, 60), /EIO/)
  memory.failReads = undefined
  t.strictSame(Buffer.from(await lease.slice(50, 60)), content.subarray(50, 60), 'and tried again')
  lease.release()
  t.equal(memory.openFiles(), 0)
})

t.test(
  '64 images at once: what fits is in memory, the rest is read from its file, all of it right',
  async (t) => {
    const memory = memoryStore()
    const contents = Array.from({ length: 64 }, () => randomBytes(30))
    const cache = openArtifactCache(memory.store, { sliceBytes, maxBytes: 100 })
    const leases = await Promise.all(contents.map((content) => cache.acquire(memory.add(content))))
    t.equal(leases.filter(({ inMemory }) => inMemory).length, 3)
    const read = await Promise.all(leases.map((lease) => readAll(lease)))
    t.ok(read.every((bytes, n) => bytes.equals(contents[n] ?? Buffer.alloc(0))))
    t.equal(cache.bytes(), 90)
    for (const lease of leases) lease.release()
    await cache.close()
    t.equal(memory.openFiles(), 0)
  },
)

t.test('forgets the least recently used first, never what is being sent', async (t) => {
  const memory = memoryStore()
  const [a, b, c, d] = [40, 40, 40, 40].map((size) => memory.add(randomBytes(size))) as [
    Digest,
    Digest,
    Digest,
    Digest,
  ]
  const cache = openArtifactCache(memory.store, { sliceBytes: 40, maxBytes: 100 })
  const readsOf = async (digest: Digest) => {
    const before = memory.reads.length
    await use(cache, digest)
    return memory.reads.length - before
  }
  await use(cache, a)
  await use(cache, b)
  t.equal(await readsOf(a), 0)
  await use(cache, c)
  t.equal(await readsOf(a), 0, 'used after b')
  t.equal(await readsOf(b), 1, 'gone')

  t.comment('b and a are held: there is no room for d')
  const held = await Promise.all([cache.acquire(a), cache.acquire(b)])
  for (const lease of held) await readAll(lease)
  t.equal(cache.bytes(), 80)
  const slow = await cache.acquire(d)
  await readAll(slow)
  t.equal(cache.bytes(), 80)
  held[0]?.release()
  t.equal(await readsOf(d), 1, 'room now: it gets a buffer although a reader still has the file')
  t.equal(await readsOf(d), 0)
  t.equal((await readAll(slow)).length, 40)
  slow.release()
  held[1]?.release()
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
