import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { buffer } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import {
  type DownloadOutcome,
  nextWriteBytes,
  prepareDownload,
  type SendOptions,
} from '../../src/boot/download-body.ts'
import type { Digest } from '../../src/domain/digest.ts'
import { isPawlError } from '../../src/errors.ts'
import { openArtifactCache } from '../../src/images/cache.ts'
import { memoryStore } from './memory-store.ts'

const sliceBytes = 1 << 16

interface WorldOptions extends SendOptions {
  readonly size?: number
  readonly announced?: { readonly digest?: string; readonly size?: number }
  readonly onResponse?: (response: ServerResponse) => void
}

/** A server with one artifact, and how each of its downloads ended. */
async function openWorld(t: Test, options: WorldOptions = {}) {
  const content = randomBytes(options.size ?? 1000)
  const memory = memoryStore()
  const cache = openArtifactCache(memory.store, { sliceBytes })
  const artifact = {
    digest: memory.add(content),
    size: content.length,
    mediaType: 'application/octet-stream',
    ...(options.announced as { digest?: Digest; size?: number }), // wrong on purpose where it is given
  }
  const outcomes: Promise<DownloadOutcome>[] = []
  const server = createServer(async (request, response) => {
    options.onResponse?.(response)
    try {
      const download = await prepareDownload(cache, request, artifact)
      outcomes.push(download.send(response, options))
      server.emit('sending')
    } catch (error) {
      response.writeHead(500).end(isPawlError(error) ? error.code : String(error))
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { content, memory, cache, artifact, outcomes, server, port }
}

async function ask(port: number, method = 'GET', headers: Record<string, string> = {}) {
  const asked = request({ host: '127.0.0.1', port, method, headers }).end()
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  return { status: response.statusCode, headers: response.headers, body: buffer(response) }
}

/** What a world leaves when all is over: no file open, no lease. */
async function leavesNothing(t: Test, { memory, cache }: Awaited<ReturnType<typeof openWorld>>) {
  await cache.close()
  t.equal(memory.openFiles(), 0)
  t.equal(cache.bytes(), 0)
}

t.test('what fails before the first byte is answered as an error', async (t) => {
  const missing = await openWorld(t, { announced: { digest: 'ab'.repeat(32) } })
  t.equal((await (await ask(missing.port)).body).toString(), 'not-found')
  await leavesNothing(t, missing)

  const other = await openWorld(t, { announced: { size: 999 } })
  t.equal((await (await ask(other.port)).body).toString(), 'digest-mismatch')
  await leavesNothing(t, other)

  const unreadable = await openWorld(t)
  unreadable.memory.failReads = () => true
  const answer = await ask(unreadable.port)
  t.equal(answer.status, 500)
  t.match((await answer.body).toString(), /EIO/)
  await leavesNothing(t, unreadable)
})

t.test('a read error in the middle cuts the connection', async (t) => {
  const world = await openWorld(t, { size: 4 * sliceBytes })
  world.memory.failReads = (position) => position === 2 * sliceBytes
  const answer = await ask(world.port)
  t.equal(answer.headers['content-length'], String(4 * sliceBytes))
  await t.rejects(answer.body, { code: 'ECONNRESET' })
  t.match(await world.outcomes[0], { bytesSent: 2 * sliceBytes, completed: false, error: { message: /EIO/ } })
  await leavesNothing(t, world)
})

t.test('a client that goes away in the middle ends the reading', async (t) => {
  const world = await openWorld(t, { size: 512 * sliceBytes })
  const socket = connect(world.port, '127.0.0.1')
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  await once(socket, 'data')
  socket.destroy()
  const outcome = await world.outcomes[0]
  t.match(outcome, { completed: false, error: undefined })
  t.ok(outcome!.bytesSent < world.content.length) // one download was sent
  t.ok(world.memory.reads.length < 512)
  await leavesNothing(t, world)
})

t.test('a client that has gone before the first byte gets nothing', async (t) => {
  const world = await openWorld(t, { onResponse: (response) => response.destroy() })
  const asked = request({ host: '127.0.0.1', port: world.port }).end()
  const sending = once(world.server, 'sending')
  await once(asked, 'error')
  await sending
  t.match(await world.outcomes[0], { bytesSent: 0, completed: false })
  await leavesNothing(t, world)
})

t.test('a client that goes away while it waits for its turn is over at once', async (t) => {
  const never = new Promise<void>(() => undefined)
  const world = await openWorld(t, { lane: { most: () => sliceBytes, take: () => never } })
  const sending = once(world.server, 'sending')
  const socket = connect(world.port, '127.0.0.1')
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  await sending
  socket.destroy()
  t.match(await world.outcomes[0], { bytesSent: 0, completed: false, error: undefined })
  await leavesNothing(t, world)
})

t.test('the server can cut a transfer', async (t) => {
  let cut: (() => void) | undefined
  const onResponse = (response: ServerResponse) => {
    cut = () => response.destroy()
  }
  const world = await openWorld(t, { size: 512 * sliceBytes, onResponse, onProgress: () => cut?.() })
  await t.rejects((await ask(world.port)).body, { code: 'ECONNRESET' })
  t.match(await world.outcomes[0], { completed: false })
  await leavesNothing(t, world)
})

t.test('a reader that stalls holds one write beyond what the socket took', async (t) => {
  let response: ServerResponse | undefined
  const progress: number[] = []
  const world = await openWorld(t, {
    size: 1024 * sliceBytes,
    onResponse: (given) => {
      response = given
    },
    onProgress: (bytes) => progress.push(bytes),
  })
  const socket = connect(world.port, '127.0.0.1')
  await once(socket, 'connect')
  socket.pause()
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  await once(world.server, 'sending')
  // The kernel's buffers are full when turns of the event loop bring no progress any more.
  for (let turns = 0, last = -1; turns < 200; turns += 1) {
    await new Promise(setImmediate)
    if (progress.length !== last) turns = 0
    last = progress.length
  }
  t.ok(response!.writableLength <= sliceBytes + 1024, `${response!.writableLength} bytes queued`) // set by the request
  t.ok(world.memory.reads.length <= progress.length + 2, 'no more than one slice is read ahead')
  t.ok(progress.length < 1024)

  socket.resume()
  await world.outcomes[0]
  t.equal(progress.at(-1), world.content.length)
  socket.destroy()
  await leavesNothing(t, world)
})

t.test(
  'only a reader that keeps up gets large writes; a quarter of a second is the server being busy',
  async (t) => {
    const [KiB, MiB] = [1024, 1024 * 1024]
    const table: [number, number, number, number][] = [
      // last write, ms it took, sent so far → next write
      [64 * KiB, 1001, 100 * MiB, 64 * KiB],
      [256 * KiB, 1001, 100 * MiB, 128 * KiB],
      [256 * KiB, 1000, 100 * MiB, 256 * KiB],
      [128 * KiB, 250, 100 * MiB, 128 * KiB],
      [128 * KiB, 249, 100 * MiB, 256 * KiB],
      [256 * KiB, 0, 100 * MiB, 512 * KiB],
      [MiB, 0, 100 * MiB, MiB],
      [64 * KiB, 0, 64 * KiB, 64 * KiB],
      [64 * KiB, 0, 2 * MiB, 128 * KiB],
      [256 * KiB, 0, 3 * MiB, 192 * KiB],
      [256 * KiB, 0, 4 * MiB - 1, 192 * KiB],
      [MiB, 0, 16 * MiB - 1, 960 * KiB],
    ]
    for (const [bytes, tookMs, sent, expected] of table) {
      t.equal(nextWriteBytes({ bytes, tookMs }, sent), expected, `${bytes} in ${tookMs} ms after ${sent}`)
    }
  },
)

t.test('many that were fast and stop hold what all of them may, and no more', async (t) => {
  const memory = memoryStore()
  const { writes } = openArtifactCache(memory.store, { writeBytes: 32 * 2 ** 20 })
  t.equal(writes.most(), 2 * 2 ** 20)
  let held = 0
  const frees: (() => void)[] = []
  for (let reader = 0; reader < 10_000; reader += 1) {
    const bytes = Math.min(2 ** 20, writes.most() & ~(sliceBytes - 1))
    if (bytes <= sliceBytes) break // the least, which each may have
    frees.push(writes.take(bytes))
    held += bytes
  }
  t.ok(frees.length > 30 && held <= 32 * 2 ** 20, `${frees.length} readers hold ${held} bytes`)
  for (const free of frees) free()
  t.equal(writes.most(), 2 * 2 ** 20)
})

t.test('sends whole and partial bodies on one connection', async (t) => {
  const world = await openWorld(t, { size: 3 * sliceBytes + 5, headers: { 'Cache-Control': 'no-store' } })
  const { content, port, artifact } = world
  const etag = `"sha256-${artifact.digest}"`
  const last = content.length - 1
  const cases: [string, Record<string, string>, number, Buffer, Record<string, string>][] = [
    [
      'GET',
      { range: `bytes=${content.length}-` },
      416,
      Buffer.alloc(0),
      { 'content-range': `bytes */${content.length}` },
    ],
    ['GET', { 'if-none-match': etag }, 304, Buffer.alloc(0), { etag }],
    ['GET', { 'if-match': '"x"' }, 412, Buffer.alloc(0), { etag }],
    [
      'HEAD',
      {},
      200,
      Buffer.alloc(0),
      { 'content-length': String(content.length), 'accept-ranges': 'bytes' },
    ],
    [
      'GET',
      {},
      200,
      content,
      { 'content-type': 'application/octet-stream', 'content-length': String(content.length) },
    ],
    ['GET', { range: 'bytes=0-' }, 206, content, { 'content-range': `bytes 0-${last}/${content.length}` }],
    ['GET', { range: 'bytes=-3' }, 206, content.subarray(-3), { 'content-length': '3' }],
    [
      'GET',
      { range: `bytes=${sliceBytes - 1}-${2 * sliceBytes}` },
      206,
      content.subarray(sliceBytes - 1, 2 * sliceBytes + 1),
      {},
    ],
    ['GET', { range: 'bytes=0-1,4-5' }, 200, content, {}],
  ]
  for (const [method, asked, status, body, headers] of cases) {
    const answer = await ask(port, method, asked)
    const name = `${method} ${JSON.stringify(asked)}`
    t.equal(answer.status, status, name)
    t.ok((await answer.body).equals(body), `${name}: body`)
    t.match(answer.headers, { ...headers, 'cache-control': 'no-store' })
    t.strictSame(await world.outcomes.at(-1), { bytesSent: body.length, completed: true })
  }
  const digest = (await ask(port, 'HEAD')).headers['repr-digest']
  t.equal(digest, `sha-256=:${Buffer.from(artifact.digest, 'hex').toString('base64')}:`)
  await leavesNothing(t, world)
})

t.test('a download that is not sent after all lets go of the artifact', async (t) => {
  const world = await openWorld(t)
  const download = await prepareDownload(world.cache, { method: 'GET', headers: {} }, world.artifact)
  download.cancel()
  await leavesNothing(t, world)
})
