import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { type Digest, digestOf } from '../../src/domain/digest.ts'
import { openArtifactStore, putSteps } from '../../src/images/artifacts.ts'
import type { SpoolOptions } from '../../src/images/spool.ts'

const content = Buffer.from('a small kernel')
const digest = digestOf(content)
const ci = { sender: 'ci' }

/** A store in a new folder, and what lies in it. */
async function openStore(t: Test, options: SpoolOptions = {}) {
  const folder = join(t.testdir({}), 'artifacts')
  const store = await openArtifactStore(folder, options)
  return {
    folder,
    store,
    tmp: () => readdirSync(join(folder, 'tmp')),
    stored: () => readdirSync(join(folder, 'sha256')),
  }
}

type Store = Awaited<ReturnType<typeof openArtifactStore>>

async function* broken(...chunks: Buffer[]): AsyncGenerator<Buffer> {
  yield* chunks
  throw new Error('aborted')
}

/** Sends the first bytes and goes away. */
function breakOff(t: Test, store: Store, bytes: number, sender = 'ci', of: Buffer = content, as = digest) {
  const upload = store.put(as, broken(of.subarray(0, bytes)), { sender, size: of.length })
  return t.rejects(upload, { code: 'invalid', message: /broke off/ })
}

/** What is over of an upload that `breakOff` began. */
function rest(store: Store, offset: number, sender = 'ci'): Promise<number> {
  return store.put(digest, Readable.from([content.subarray(offset)]), {
    sender,
    offset,
    size: content.length,
  })
}

t.test('an upload that is longer than it was announced ends there and keeps nothing', async (t) => {
  const { store, tmp } = await openStore(t)
  let sent = 0
  async function* endless(): AsyncGenerator<Buffer> {
    for (; sent < 1000; sent += 1) yield content
  }
  const upload = store.put(digest, endless(), { ...ci, size: content.length + 1 })
  await t.rejects(upload, { code: 'digest-mismatch', message: /has more than the announced 15 bytes/ })
  t.match([sent, tmp()], [1, []], 'what comes behind is not read')
})

t.test('an upload that breaks off shows nothing, and its sender goes on', async (t) => {
  const { store, stored } = await openStore(t)
  t.equal(await store.received(digest, 'ci'), 0)
  await breakOff(t, store, 5)
  t.strictSame([await store.has(digest), stored()], [undefined, []])
  t.equal(await store.received(digest, 'ci'), 5)
  t.equal(await store.received(digest, 'another'), 0, 'it is of its sender alone')
  t.equal(await rest(store, 5), 14)
  t.equal(await store.verify(digest), 14)
  t.equal(await store.received(digest, 'ci'), 0)
})

t.test('an upload may come in parts, each of which ends well', async (t) => {
  const { store, tmp } = await openStore(t)
  for (const [from, to] of [
    [0, 5],
    [5, 14],
  ] as const) {
    const part = Readable.from([content.subarray(from, to)])
    t.equal(await store.put(digest, part, { ...ci, offset: from, size: 14 }), to)
    t.equal(await store.has(digest), to === 14 ? 14 : undefined)
  }
  t.strictSame(tmp(), [])
})

t.test('one that arrived whole before its answer was lost is stored without another byte', async (t) => {
  const { store } = await openStore(t)
  await breakOff(t, store, 14)
  t.equal(await store.has(digest), undefined)
  t.equal(await store.put(digest, Readable.from([]), { ...ci, offset: 14, size: 14 }), 14)
  t.equal(await store.verify(digest), 14)
})

t.test('refuses another offset than has arrived, and keeps what has', async (t) => {
  const { store } = await openStore(t)
  const message = (have: number, offset: number) =>
    `the upload of artifact ${digest} has ${have} bytes, not ${offset}`
  await t.rejects(rest(store, 5), { code: 'conflict', message: message(0, 5) }, 'where nothing has')
  await breakOff(t, store, 5)
  for (const offset of [1, 4, 6, 13]) {
    await t.rejects(rest(store, offset), { code: 'conflict', message: message(5, offset) })
  }
  await t.rejects(store.put(digest, Readable.from([]), { ...ci, offset: 15, size: 14 }), {
    code: 'invalid',
    message: 'an upload of 14 bytes cannot go on at byte 15',
  })
  t.equal(await store.received(digest, 'ci'), 5)
  t.equal(await rest(store, 5), 14)
})

t.test('begins anew at 0, whatever is there', async (t) => {
  const { store } = await openStore(t)
  await breakOff(t, store, 9, 'ci', Buffer.from('something'))
  t.equal(await rest(store, 0), 14)
})

t.test('what goes on from wrong bytes, or with too many, is refused and removed', async (t) => {
  const cases = [
    {
      name: 'a wrong beginning',
      begin: Buffer.from('A smal'),
      end: content.subarray(6),
      code: 'digest-mismatch',
    },
    {
      name: 'a wrong end',
      begin: content.subarray(0, 6),
      end: Buffer.from('l kerneL'),
      code: 'digest-mismatch',
    },
    {
      name: 'too long an end',
      begin: content.subarray(0, 6),
      end: Buffer.from('l kernels'),
      code: 'digest-mismatch',
    },
    { name: 'more than may be', begin: content.subarray(0, 6), end: Buffer.alloc(200), code: 'too-large' },
  ]
  for (const { name, begin, end, code } of cases) {
    const { store, tmp, stored } = await openStore(t, { limits: { artifactBytes: 100 } })
    await t.rejects(store.put(digest, broken(begin), { ...ci, size: 14 }), { code: 'invalid' })
    await t.rejects(store.put(digest, Readable.from([end]), { ...ci, offset: 6, size: 14 }), { code }, name)
    t.strictSame([tmp(), stored()], [[], []], name)
  }
})

t.test('two senders of one artifact do not disturb each other', async (t) => {
  const { store, tmp } = await openStore(t)
  await breakOff(t, store, 5, 'one')
  await breakOff(t, store, 9, 'two')
  t.strictSame([await store.received(digest, 'one'), await store.received(digest, 'two')], [5, 9])
  t.strictSame(await Promise.all([rest(store, 5, 'one'), rest(store, 9, 'two')]), [14, 14])
  t.strictSame([await store.verify(digest), tmp()], [14, []])
})

t.test('of two requests for one upload the later is turned away, unless the earlier stalls', async (t) => {
  let now = 0
  const { store, tmp } = await openStore(t, { now: () => now })
  const body = new PassThrough()
  const first = store.put(digest, body, { ...ci, size: 14 })
  const reached = async (bytes: number) => {
    while ((await store.received(digest, 'ci')) < bytes) await new Promise(setImmediate)
  }
  body.write(content.subarray(0, 5))
  await reached(5)
  now = 9_999
  await t.rejects(rest(store, 5), { code: 'conflict', message: /another request with this token/ })
  body.write(content.subarray(5, 9))
  await reached(9)
  now = 19_998
  await t.rejects(rest(store, 9), { code: 'conflict' }, 'each byte counts')

  now = 20_000
  const [gone, done] = await Promise.allSettled([first, rest(store, 9)])
  t.match(gone, { status: 'rejected', reason: { code: 'conflict', message: /a later request goes on/ } })
  t.match(done, { status: 'fulfilled', value: 14 })
  t.equal(body.destroyed, true, 'the connection of the earlier is cut')
  t.strictSame([await store.verify(digest), tmp()], [14, []])
})

t.test('names are no paths: whatever a sender is called, its file lies in the folder', async (t) => {
  const { store, tmp } = await openStore(t)
  for (const sender of ['../../etc/passwd', '/', '.', '', 'x'.repeat(5000), 'nul\0', 'ünï'])
    await breakOff(t, store, 5, sender)
  t.equal(tmp().length, 7)
  for (const name of tmp()) t.match(name, /^[0-9a-f]{32}\.[0-9a-f]{64}$/)
})

t.test('a disk that is full in the middle is told, and what had arrived is removed', async (t) => {
  for (const code of ['ENOSPC', 'EDQUOT']) {
    let full = false
    const { store, tmp, stored } = await openStore(t, {
      faults: (step) => {
        if (full && step === 'written') throw Object.assign(new Error('no space left on device'), { code })
      },
    })
    await breakOff(t, store, 5)
    full = true
    await t.rejects(rest(store, 5), { code: 'disk-full', hint: /what had arrived was removed/ })
    t.strictSame([tmp(), stored()], [[], []])
  }
})

t.test('what cannot fit on the disk is refused before it is read', async (t) => {
  const { store, tmp } = await openStore(t, { limits: { artifactBytes: 2 ** 52, spoolBytes: 2 ** 52 } })
  const untouched = new PassThrough()
  await t.rejects(store.put(digest, untouched, { ...ci, size: 2 ** 51 }), {
    code: 'disk-full',
    message: /^no room on the server’s disk for 2251799813685248 bytes more: \d+ may be used$/,
  })
  t.equal(untouched.readableFlowing, null)
  const reserved = await openStore(t, { limits: { reserveBytes: 2 ** 52 } })
  await t.rejects(
    reserved.store.put(digest, untouched, { ...ci, size: 1 }),
    { code: 'disk-full' },
    'nor the reserve',
  )
  t.strictSame([tmp(), reserved.tmp()], [[], []])
})

/** Other artifacts, by number. */
function other(n: number): { bytes: Buffer; digest: Digest } {
  const bytes = Buffer.from(`artifact number ${n}`)
  return { bytes, digest: digestOf(bytes) }
}

t.test('a sender has so many uploads; its oldest idle one gives way, others’ never', async (t) => {
  const { store, folder } = await openStore(t, { limits: { perSender: 2 } })
  await breakOff(t, store, 5, 'another')
  for (const n of [1, 2, 3]) {
    const { bytes, digest } = other(n)
    await breakOff(t, store, 5, 'ci', bytes, digest)
    const file = readdirSync(join(folder, 'tmp')).find((name) => name.endsWith(digest)) ?? ''
    utimesSync(join(folder, 'tmp', file), n, n)
  }
  const received = [1, 2, 3].map((n) => store.received(other(n).digest, 'ci'))
  t.strictSame(await Promise.all(received), [0, 5, 5])
  t.equal(await store.received(digest, 'another'), 5)

  const bodies = [4, 5].map(() => new PassThrough())
  const running = bodies.map((body, i) => store.put(other(i + 4).digest, body, { ...ci, size: 17 }))
  for (const [i, body] of bodies.entries()) body.write(other(i + 4).bytes)
  for (const n of [4, 5])
    while ((await store.received(other(n).digest, 'ci')) < 17) await new Promise(setImmediate)
  await t.rejects(store.put(other(6).digest, new PassThrough(), { ...ci, size: 17 }), {
    code: 'overloaded',
    message: '2 uploads with this token are under way; 2 may be',
    retryAfterSeconds: 60,
  })
  for (const body of bodies) body.end()
  t.strictSame(await Promise.all(running), [17, 17])
})

t.test('all uploads together have a limit, with what is announced of them', async (t) => {
  const { store } = await openStore(t, { limits: { spoolBytes: 40 } })
  const body = new PassThrough()
  const running = store.put(other(1).digest, body, { sender: 'one', size: 17 })
  body.write(other(1).bytes.subarray(0, 3))
  while ((await store.received(other(1).digest, 'one')) < 3) await new Promise(setImmediate)
  await breakOff(t, store, 14, 'two')
  const late = store.put(other(2).digest, new PassThrough(), { sender: 'three', size: 17 })
  await t.rejects(late, {
    code: 'overloaded',
    message: 'uploads that are not done have 31 bytes, and 17 more are over 40',
  })
  body.end(other(1).bytes.subarray(3))
  t.equal(await running, 17)
  t.equal(
    await store.put(other(2).digest, Readable.from([other(2).bytes]), { sender: 'three', size: 17 }),
    17,
  )
})

t.test('an upload is removed a day after its last byte, but none that is under way', async (t) => {
  const { store, folder, tmp } = await openStore(t)
  await breakOff(t, store, 5)
  const body = new PassThrough()
  const running = store.put(digest, body, { sender: 'another', size: 14 })
  body.write(content)
  while ((await store.received(digest, 'another')) < 14) await new Promise(setImmediate)
  const lastByteAt = Date.parse('2026-11-20T10:00:00Z')
  for (const name of tmp()) utimesSync(join(folder, 'tmp', name), lastByteAt / 1000, lastByteAt / 1000)
  await store.tidy(new Date(lastByteAt + 24 * 3600_000 - 1))
  t.equal(tmp().length, 2)
  await store.tidy(new Date(lastByteAt + 24 * 3600_000))
  t.strictSame([tmp().length, await store.received(digest, 'ci')], [1, 0])
  body.end()
  t.equal(await running, 14)
})

t.test('opening removes what is no upload to go on with, and spares those under way', async (t) => {
  const { store, folder, tmp, stored } = await openStore(t)
  await breakOff(t, store, 5)
  mkdirSync(join(folder, 'tmp', 'a-folder'))
  writeFileSync(join(folder, 'tmp', '999999999.left'), 'half')
  async function* opensMeanwhile() {
    await openArtifactStore(folder)
    yield content
  }
  t.equal(await store.put(digest, opensMeanwhile(), {}), 14)
  t.strictSame([stored(), tmp().length, await store.received(digest, 'ci')], [[digest], 1, 5])
})

t.test('kill -9 behind any step leaves nothing half-visible, and the upload goes on', async (t) => {
  const child = join(import.meta.dirname, 'crash-child.ts')
  for (const step of putSteps) {
    await t.test(step, async (t) => {
      const folder = join(t.testdir({}), 'artifacts')
      const args = [child, folder, step, digest, content.toString()]
      const [, signal] = await once(spawn(process.execPath, args, { stdio: 'inherit' }), 'exit')
      t.equal(signal, 'SIGKILL')

      const store = await openArtifactStore(folder)
      const renamed = step === 'renamed' || step === 'folder-synced'
      const arrived = step === 'created' ? 0 : step === 'written' ? 4 : renamed ? 0 : 14
      t.strictSame(
        [await store.has(digest), await store.received(digest, 'ci')],
        [renamed ? 14 : undefined, arrived],
      )
      if (!renamed) t.equal(await rest(store, arrived), 14)
      t.equal(await store.verify(digest), 14)
      t.equal(readFileSync(join(folder, 'sha256', digest), 'utf8'), 'a small kernel')
      t.strictSame(readdirSync(join(folder, 'tmp')), [])
    })
  }
})
