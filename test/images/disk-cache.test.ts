import { randomBytes } from 'node:crypto'
import {
  promises,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { open as openFile } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Digest, digestOf } from '../../src/domain/digest.ts'
import { diskCached } from '../../src/images/disk-cache.ts'
import { type MemoryStore, memoryStore } from './memory-store.ts'

const MiB = 2 ** 20

/** What happens behind the reading has no event. */
async function until(happened: () => boolean): Promise<void> {
  while (!happened()) await turn()
}

/** For every module that imports it. */
function replaceReaddir(readdir: unknown): void {
  Object.assign(promises, { readdir })
  syncBuiltinESMExports()
}

async function open(t: Test, memory: MemoryStore, maxBytes = 10 * MiB, reserveBytes = 0) {
  const folder = join(t.testdir({}), 'cache')
  const answers: string[] = []
  const faults: unknown[] = []
  const onFault = (error: unknown) => faults.push(error)
  const shelf = await diskCached(memory.store, folder, {
    maxBytes,
    reserveBytes,
    clock: () => new Date(),
    onFault,
    asked: (answer) => answers.push(answer),
  })
  const names = () => readdirSync(folder).sort()
  return { folder, shelf, faults, names, answers }
}

async function readAll(shelf: MemoryStore['store'], digest: Digest): Promise<Buffer> {
  const file = await shelf.open(digest)
  const bytes = Buffer.alloc(file.size)
  try {
    for (let at = 0; at < file.size; at += MiB) await file.read(bytes.subarray(at, at + MiB), at)
  } finally {
    await file.close()
  }
  return bytes
}

t.test('what the storage has not got is not there, and what it sends wrong gets no name', async (t) => {
  const memory = memoryStore()
  const { shelf, faults, names } = await open(t, memory)
  await t.rejects(shelf.open('ab'.repeat(32) as Digest), { code: 'not-found' })
  const right = randomBytes(3 * MiB)
  const digest = memory.add(right)
  memory.alter = true
  await readAll(shelf, digest)
  await until(() => faults.length === 1)
  t.match(faults, [{ code: 'digest-mismatch' }])
  t.strictSame(names(), [])
  memory.alter = false
  t.ok((await readAll(shelf, digest)).equals(right))
  await until(() => names().length === 1 && names()[0] === digest)
})

t.test('a storage that fails in the middle leaves nothing, and the next who asks begins again', async (t) => {
  const memory = memoryStore()
  const { shelf, faults, names } = await open(t, memory)
  const content = randomBytes(5 * MiB)
  const digest = memory.add(content)
  memory.failReads = (position) => position === 3 * MiB
  await t.rejects(readAll(shelf, digest), /EIO/)
  await until(() => faults.length === 1)
  t.strictSame(names(), [])
  memory.failReads = undefined
  t.ok((await readAll(shelf, digest)).equals(content))
  await until(() => memory.openFiles() === 0)
})

t.test('many readers at once are one fetch; the next read is of the disk, after a start too', async (t) => {
  const memory = memoryStore()
  const { shelf, folder, names, answers } = await open(t, memory)
  const content = randomBytes(4 * MiB + 5)
  const digest = memory.add(content)
  const read = await Promise.all([1, 2, 3, 4].map(() => readAll(shelf, digest)))
  t.strictSame(answers, ['miss', 'hit', 'hit', 'hit'], 'and counted so')
  t.ok(read.every((bytes) => bytes.equals(content)))
  t.strictSame(memory.reads, [0, MiB, 2 * MiB, 3 * MiB, 4 * MiB], 'each part once')
  await until(() => names()[0] === digest)
  t.ok(readFileSync(join(folder, digest)).equals(content))
  t.equal(statSync(join(folder, digest)).mode & 0o007, 0, 'for nobody else')
  const again = await diskCached(memory.store, folder, {
    maxBytes: 10 * MiB,
    reserveBytes: 0,
    clock: () => new Date(),
    onFault: (error) => t.fail(String(error)),
  })
  t.ok((await readAll(again, digest)).equals(content))
  t.equal(memory.reads.length, 5)
  t.equal(memory.openFiles(), 0)
})

t.test('who reads far ahead of what has arrived does not wait for it', async (t) => {
  const memory = memoryStore()
  const { shelf } = await open(t, memory, 100 * MiB)
  const content = randomBytes(40 * MiB)
  const file = await shelf.open(memory.add(content))
  const last = Buffer.alloc(100)
  await file.read(last, content.length - 100)
  t.ok(last.equals(content.subarray(-100)))
  t.ok(memory.reads.length < 30, `${memory.reads.length} parts were read before`)
  await file.close()
  await until(() => memory.openFiles() === 0)
})

t.test('what a killed process left of a fetch keeps its room for ten minutes, and no longer', async (t) => {
  const memory = memoryStore()
  const { shelf, folder, names } = await open(t, memory, 10 * MiB)
  const left = join(folder, 'fetch-left')
  const minutesAgo = (minutes: number) => Date.now() / 1000 - minutes * 60
  writeFileSync(left, Buffer.alloc(8 * MiB))
  utimesSync(left, minutesAgo(9), minutesAgo(9))
  const digest = memory.add(randomBytes(4 * MiB))
  await readAll(shelf, digest)
  await until(() => memory.openFiles() === 0)
  t.strictSame(names(), ['fetch-left'], 'it may still be running: not touched, and nothing kept beside it')
  utimesSync(left, minutesAgo(11), minutesAgo(11))
  await readAll(shelf, digest)
  await until(() => names().includes(digest))
  t.strictSame(names(), [digest])
})

t.test(
  'it stays within its size: what was not used for longest goes, and what does not fit is not kept',
  async (t) => {
    const memory = memoryStore()
    const { shelf, folder, names } = await open(t, memory, 10 * MiB)
    writeFileSync(join(folder, 'fetch-1-left'), Buffer.alloc(MiB))
    utimesSync(join(folder, 'fetch-1-left'), 1, 1)
    const contents = [4, 4, 4, 11].map((size) => randomBytes(size * MiB))
    const digests = contents.map((content) => memory.add(content)) as [Digest, Digest, Digest, Digest]
    for (const [n, digest] of digests.slice(0, 2).entries()) {
      await readAll(shelf, digest)
      await until(() => names().includes(digest) && memory.openFiles() === 0)
      utimesSync(join(folder, digest), 100 + n, 100 + n)
    }
    await readAll(shelf, digests[0])
    await until(() => statSync(join(folder, digests[0])).mtimeMs > 200_000)
    await readAll(shelf, digests[2])
    await until(() => names().includes(digests[2]))
    t.strictSame(
      names(),
      [digests[0], digests[2]].sort(),
      'the second was not used since, nor what a dead process left',
    )
    t.ok((await readAll(shelf, digests[3])).equals(contents[3] ?? Buffer.alloc(0)), 'larger than all of it')
    t.strictSame(names(), [digests[0], digests[2]].sort())
    const full = await open(t, memory, 10 * MiB, Number.MAX_SAFE_INTEGER)
    t.equal(digestOf(await readAll(full.shelf, digests[1])), digests[1], 'a full disk is left alone')
    t.strictSame(full.names(), [])
  },
)

t.test('fetches at once stay within its size together, too', async (t) => {
  const memory = memoryStore()
  const { shelf, names } = await open(t, memory, 10 * MiB)
  const contents = [4, 4, 4].map((size) => randomBytes(size * MiB))
  const read = await Promise.all(contents.map((content) => readAll(shelf, memory.add(content))))
  t.ok(read.every((bytes, n) => bytes.equals(contents[n] ?? Buffer.alloc(0))))
  await until(() => memory.openFiles() === 0)
  t.equal(names().length, 2, 'the third is not kept')
})

t.test('a fetch that takes its name while another lists the folder is counted', async (t) => {
  const memory = memoryStore()
  const { shelf, folder, names } = await open(t, memory, 7 * MiB)
  const other = join(folder, 'fetch-other')
  const name = 'ab'.repeat(32)
  writeFileSync(other, Buffer.alloc(4 * MiB))
  const { readdir } = promises
  t.teardown(() => replaceReaddir(readdir))
  let listings = 0
  replaceReaddir(async (path: string) => {
    const listed = await readdir(path)
    listings += 1
    if (listings === 1) renameSync(other, join(folder, name))
    return listed
  })
  await readAll(shelf, memory.add(randomBytes(4 * MiB)))
  await until(() => memory.openFiles() === 0)
  t.equal(listings, 3, 'twice for its room, and once when its file is there')
  t.equal(names().length, 1, 'the one of before went for it')
  t.not(names()[0], name)
})

t.test('processes that look for room at the same time stay within the size together', async (t) => {
  const memory = memoryStore()
  const { shelf, folder, names } = await open(t, memory, 7 * MiB)
  const [oldest, other] = ['ab'.repeat(32), 'fetch-other']
  writeFileSync(join(folder, oldest), Buffer.alloc(2 * MiB))
  const { readdir } = promises
  t.teardown(() => replaceReaddir(readdir))
  let listings = 0
  let bytes = 0
  replaceReaddir(async (path: string) => {
    const listed = await readdir(path)
    listings += 1
    if (listings % 2 === 1) writeFileSync(join(folder, other), Buffer.alloc(bytes))
    return listed
  })
  bytes = 2 * MiB // for it the oldest goes
  const fits = memory.add(randomBytes(4 * MiB))
  await readAll(shelf, fits)
  await until(() => memory.openFiles() === 0)
  t.same(names().sort(), [fits, other].sort())
  rmSync(join(folder, fits))
  bytes = 4 * MiB // nothing can go for it
  const content = randomBytes(4 * MiB)
  t.same(await readAll(shelf, memory.add(content)), content)
  await until(() => memory.openFiles() === 0)
  t.same(names(), [other], 'who came second keeps nothing')
})

t.test('a disk that takes a part of a write leaves no hole in a file', async (t) => {
  const memory = memoryStore()
  const { shelf, folder, names } = await open(t, memory)
  const content = randomBytes(2 * MiB + 7)
  const digest = memory.add(content)
  const file = await openFile(join(folder, 'probe'), 'w')
  const handles = Object.getPrototypeOf(file)
  await file.close()
  rmSync(join(folder, 'probe'))
  const { write } = handles
  const half = (length: number): number => Math.max(1, Math.floor(length / 2))
  t.intercept(handles, 'write', {
    value(this: unknown, bytes: Buffer, from: number, length: number, at: number) {
      return write.call(this, bytes, from, half(length), at)
    },
  })
  t.intercept(handles, 'writev', {
    value(this: unknown, [bytes]: [Buffer], at: number) {
      return write.call(this, bytes, 0, half(bytes.length), at)
    },
  })
  t.ok((await readAll(shelf, digest)).equals(content))
  await until(() => names().includes(digest))
  t.ok(readFileSync(join(folder, digest)).equals(content))
})
