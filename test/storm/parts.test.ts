import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer, rootCertificates } from 'node:tls'
import t from 'tap'
import { Connections, openPersonas } from '../../src/storm/connections.ts'
import { HandshakeRoom } from '../../src/storm/handshake-room.ts'
import { ServerWatch } from '../../src/storm/load.ts'
import {
  idOf,
  isOfStorm,
  loopbackAddress,
  newStormId,
  nodeNameOf,
  parseStormId,
} from '../../src/storm/marks.ts'
import type { Behaviour } from '../../src/storm/plan.ts'
import { readRecords } from '../../src/storm/records.ts'
import { askAsAgent } from '../../src/storm/requests.ts'
import type { Tally } from '../../src/storm/tally.ts'
import { percentilesOf } from '../../src/storm/totals.ts'
import { Backoff } from '../../src/storm/waits.ts'
import { ask, type WireRequest } from '../../src/storm/wire.ts'
import { prepared } from '../cli/helpers/installation.ts'

/** Speaks with a server that answers these bytes, some at a time. */
async function answered(
  parts: readonly string[],
  request: WireRequest = { method: 'GET', path: '/' },
  sink?: (chunk: Buffer) => boolean,
): Promise<unknown> {
  const server = createServer(async (socket: Socket) => {
    socket.on('error', () => undefined)
    await once(socket, 'data')
    for (const part of parts) await new Promise((resolve) => socket.write(part, 'latin1', resolve))
    socket.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  try {
    const { status, body, reusable } = await ask(socket, 'host', request, sink)
    return [status, body.toString(), reusable]
  } catch (error) {
    return (error as Error).message
  } finally {
    socket.destroy()
    server.close()
  }
}

t.test('an answer is read whole, however it is cut, and what is none is named', async (t) => {
  const head = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n'
  const table: readonly (readonly [readonly string[], unknown])[] = [
    [[`${head}\r\nhello`], [200, 'hello', true]],
    [[...`${head}\r\nhello`], [200, 'hello', true]],
    [[`${head}Connection: close\r\n\r\nhello`], [200, 'hello', false]],
    [['HTTP/1.1 204 No Content\r\n\r\n'], [204, '', true]],
    [['HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n'], [503, '', true]],
    [[`${head}\r\nhell`], 'connection closed before the answer was whole'],
    [[`${head}\r\nhello!`], 'more bytes than the answer said'],
    [['HTTP/1.1 200 OK\r\n\r\nhello'], 'an answer that does not say its length'],
    [['HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n'], 'an answer that does not say its length'],
    [['SSH-2.0-OpenSSH\r\n\r\n'], 'not an HTTP answer'],
    [['a'.repeat(70_000)], 'headers without an end'],
    [[], 'connection closed before the answer was whole'],
  ]
  for (const [parts, expected] of table) t.same(await answered(parts), expected, parts.join('').slice(0, 60))
  t.same(await answered([`${head}\r\n`], { method: 'HEAD', path: '/' }), [200, '', true], 'HEAD has no body')
  t.same(await answered([`${head}\r\nhello`], { method: 'GET', path: '/' }, () => false), 'cut on purpose')
})

t.test('what is of a storm is known by its name and its label, both', async (t) => {
  const [id, label] = ['abc123', { 'pawl-storm': 'abc123' }]
  t.equal(isOfStorm(id, { name: 'storm-abc123-00001', labels: label }), true)
  for (const [name, labels] of [
    ['storm-abc123-00001', {}],
    ['storm-abc123-00001', { 'pawl-storm': 'abc124' }],
    ['storm-abc124-00001', label],
    ['storm-abc123-1', label],
    ['storm-abc123-00001.example.org', label],
    ['mlab1', label],
  ] as const)
    t.equal(isOfStorm(id, { name, labels }), false, `${name} ${JSON.stringify(labels)}`)
  for (const name of ['storm-abc123', 'storm-abc123-stage2@1', nodeNameOf(id, 0)]) t.equal(idOf(name), id)
  for (const name of ['storm', 'storm-abc12', 'storm-ABC123', 'storm-abc1234', 'mystorm-abc123'])
    t.equal(idOf(name), undefined, name)
  for (let times = 0; times < 1000; times += 1) t.equal(parseStormId(newStormId()).length, 6)
  for (const text of ['', 'abc12', 'abc1234', 'ABC123', '../../'])
    t.throws(() => parseStormId(text), { code: 'usage' })
})

t.test('each node has an address of its own in 127.64.0.0/10', async (t) => {
  const addresses = new Set(Array.from({ length: 50_001 }, (_, index) => loopbackAddress(index)))
  t.equal(addresses.size, 50_001)
  for (const address of addresses)
    if (!/^127\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])(\.([1-9]|[1-9]\d|1\d\d|2[0-4]\d|250)){2}$/.test(address))
      t.fail(address)
})

t.test('percentiles are those of the times themselves', async (t) => {
  const hundred = Array.from({ length: 100 }, (_, at) => 100 - at)
  t.same(percentilesOf(hundred), { count: 100, p50: 50, p90: 90, p99: 99, max: 100 })
  t.same(percentilesOf([7]), { count: 1, p50: 7, p90: 7, p99: 7, max: 7 })
  t.same(percentilesOf([]), { count: 0, p50: 0, p90: 0, p99: 0, max: 0 })
})

t.test('pauses double up to the longest, and are never shorter than the server says', async (t) => {
  const pauses = new Backoff(2, 16, 1)
  for (const expected of [2, 4, 8, 16, 16]) {
    const seconds = pauses.next()
    t.ok(seconds >= expected * 0.75 && seconds <= expected * 1.25, `${seconds} for ${expected}`)
  }
  t.equal(pauses.exhausted, true)
  t.equal(new Backoff(5, 300, 1000).next(30), 30, 'hurry does not shorten what the server asks for')
  t.ok(new Backoff(5, 300, 1000).next() < 0.01)
})

t.test('the largest record is read from what openssl tells', async (t) => {
  const record = (kind: string, length: string): string =>
    `${kind} TLS 1.2, RecordHeader [length 0005]\n    17 03 03 ${length}\ndata`
  t.same(readRecords(`${record('<<<', '10 18')}${record('>>>', '20 00')}${record('<<<', '00 20')}`), {
    largestBytes: 4120,
    records: 2,
    honoured: true,
  })
  t.match(readRecords(record('<<<', '40 18')), { largestBytes: 16_408, honoured: false })
  t.equal(readRecords('no records'), undefined)
})

t.test('the CPU of a process tree is counted over restarts, from the first look on', async (t) => {
  const proc = mkdtempSync(join(tmpdir(), 'pawl-proc-'))
  t.teardown(() => rmSync(proc, { recursive: true, force: true }))
  const put = (id: number, ticks: number, pages: number, children = ''): void => {
    mkdirSync(join(proc, String(id), 'task', String(id)), { recursive: true })
    const fields = [
      'S',
      ...Array(10).fill('0'),
      String(ticks),
      '0',
      ...Array(6).fill('0'),
      '77',
      '0',
      String(pages),
    ]
    writeFileSync(join(proc, String(id), 'stat'), `${id} (a b) c) ${fields.join(' ')}`)
    writeFileSync(join(proc, String(id), 'task', String(id), 'children'), children)
  }
  let root: number | undefined
  const watch = new ServerWatch(() => root, proc)
  watch.look()
  t.equal(watch.result(), undefined, 'nothing is known')
  root = 10
  put(10, 1000, 100, '11 ')
  put(11, 500, 50)
  watch.look()
  t.match(watch.result(), { cpuSeconds: 0, memoryBytes: 150 * 4096, processes: 2, restarts: 0 })
  put(10, 1100, 200, '11 12 ')
  put(11, 600, 50)
  put(12, 50, 50)
  watch.look()
  t.match(watch.result(), { cpuSeconds: 2.5, memoryBytes: 300 * 4096, processes: 3, restarts: 0 })
  root = 20
  watch.look()
  put(20, 100, 10)
  watch.look()
  t.match(watch.result(), { cpuSeconds: 3.5, memoryBytes: 300 * 4096, processes: 3, restarts: 1 })
})

t.test('a server is believed only with a certificate of the root, for its name', async (t) => {
  const { folder, tls } = await prepared()
  const server = createTlsServer(tls).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const own = readFileSync(join(folder, 'ca.crt'), 'utf8')
  const behaviour = { certificate: 'rsa', cipher: undefined } as Behaviour
  const reached = async (name: string, ca: string): Promise<string> => {
    const target = { host: '127.0.0.1', port, name, ca }
    const connections = new Connections({
      target,
      personas: openPersonas(target, behaviour),
      address: '127.64.1.1',
      resumes: true,
      onHandshake: () => undefined,
      room: new HandshakeRoom(() => undefined),
    })
    try {
      return (await connections.agent()).getProtocol() ?? 'none'
    } catch (error) {
      return (error as Error).message
    } finally {
      connections.cut()
    }
  }
  t.equal(await reached('127.0.0.1', own), 'TLSv1.3')
  t.equal(await reached('localhost', own), 'TLSv1.3')
  t.equal(await reached('192.0.2.1', own), 'the certificate is for another name')
  t.equal(await reached('other.example', own), 'the certificate is for another name')
  t.match(await reached('127.0.0.1', rootCertificates[0] ?? ''), /^(SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO)/)
})

t.test(
  '200 handshakes are under way at most; who waits is told, comes in order, and is no failure',
  async (t) => {
    const held: number[] = []
    const room = new HandshakeRoom((milliseconds) => held.push(milliseconds))
    const first = await Promise.all(Array.from({ length: 200 }, () => room.enter()))
    t.equal(held.length, 0)
    const entered: number[] = []
    const rest = [1, 2, 3].map(async (n) => {
      const leave = await room.enter()
      entered.push(n)
      return leave
    })
    await new Promise((resolve) => setImmediate(resolve))
    t.same(entered, [])
    first[0]?.()
    first[0]?.() // twice gives one place back
    await rest[0]
    await new Promise((resolve) => setImmediate(resolve))
    t.same(entered, [1])
    first[1]?.()
    first[2]?.()
    for (const one of await Promise.all(rest)) one()
    for (const one of first.slice(3)) one()
    t.same(entered, [1, 2, 3])
    t.equal(held.length, 3)
    await Promise.all(Array.from({ length: 200 }, () => room.enter()))
    t.equal(held.length, 3, 'and all places are free again')
  },
)

t.test('the time for which a node waited for this client is no time of its request', async (t) => {
  const { folder, tls } = await prepared()
  const server = createTlsServer(tls, (socket) => {
    socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const ca = readFileSync(join(folder, 'ca.crt'), 'utf8')
  const target = { host: '127.0.0.1', port: (server.address() as AddressInfo).port, name: 'localhost', ca }
  const behaviour = { certificate: 'rsa', cipher: undefined } as Behaviour
  let ahead = 0
  const now = performance.now.bind(performance)
  performance.now = () => now() + ahead
  t.teardown(() => {
    performance.now = now
  })
  const room = new HandshakeRoom(() => undefined)
  room.enter = async () => {
    ahead += 600_000
    return () => undefined
  }
  const connections = new Connections({
    target,
    personas: openPersonas(target, behaviour),
    address: '127.64.1.1',
    resumes: true,
    onHandshake: () => undefined,
    room,
  })
  const times: number[] = []
  const tally = { time: (_: string, milliseconds: number) => times.push(milliseconds) } as unknown as Tally
  const client = { connections, behaviour, tally, name: 'localhost', signal: new AbortController().signal }
  for (const _ of [1, 2]) await askAsAgent(client, 'report', { method: 'POST', path: '/' })
  connections.cut()
  t.equal(times.length, 2)
  t.ok(
    times.every((one) => one > 0 && one < 600_000),
    times.join(),
  )
})
