import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import t from 'tap'
import { settings } from '../../src/config-table.ts'
import type { ConnectionLimit } from '../../src/domain/load.ts'
import { tokenFromRandom } from '../../src/domain/token.ts'
import { knownClients } from '../../src/handshake/known-clients.ts'
import { gateLimits } from '../../src/http/gate.ts'
import { httpLimits } from '../../src/http/limits.ts'
import { send } from '../helpers/robot.ts'
import { install, type Server } from '../workers/installation.ts'
import {
  asksOnce,
  base64,
  boots,
  crowd,
  kernelOf,
  memoryMiB,
  openFiles,
  operatorPort,
  slowCrowd,
  status,
  until,
} from './crowds.ts'

const hello = knownClients()[0]?.bytes ?? Buffer.alloc(0)

async function secured({ port, ca }: Server, more: object = {}): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port, ca, ...more }).on('error', () => {})
  await once(socket, 'secureConnect')
  return socket
}

/** All that comes until the end. */
async function heard(socket: TLSSocket): Promise<string> {
  let text = ''
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
  await new Promise((resolve) => socket.once('close', resolve))
  return text
}

t.test('the limits that the code assumes are the defaults of the settings', async (t) => {
  for (const [name, value] of Object.entries({ ...gateLimits, ...httpLimits }))
    t.equal(Number(settings[name as keyof typeof settings].default), value, name)
})

t.test('with the limits as they come', async (t) => {
  const place = await install(t, 60)
  // But for times: the first of a crowd is still there, and still sends, when the last has come, however long that takes.
  const times = ['--idle-timeout-seconds', '3600', '--request-timeout-seconds', '300']
  const server = await place.start(['--workers', '1', ...times])
  await boots(t, place, server, 'node1', 'a boot, to begin with')

  await t.test('readers that never read: memory for each is bounded, and a session has eight', async (t) => {
    const sessions = 50
    const paths: string[] = []
    for (let n = 6; n < 6 + sessions; n += 1) paths.push(await kernelOf(place, server, `node${n}`))
    // The kernel is in memory then, once for all.
    await send(server, 'GET', paths[0] ?? '')
    const before = memoryMiB(server)
    const says = paths.map((path) => base64(`GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`))
    const readers = await crowd(t, {
      port: server.port,
      count: sessions * 10,
      net: 30,
      tls: true,
      says,
      reads: false,
    })
    await until(place, server, ({ downloads }) => downloads === sessions * 8)
    await boots(t, place, server, 'node56', 'a node boots beside them')
    const each = ((memoryMiB(server) - before) * 1024) / (sessions * 8)
    t.comment(`${Math.round(each)} KiB for each reader`)
    t.ok(each < 400, `${each} KiB`)
    await until(place, server, ({ toldToWaitBy }) => toldToWaitBy.download === sessions * 2)
    await readers.leave()
    await until(place, server, ({ downloads }) => downloads === 0)
  })

  await t.test('20,000 idle connections: a node boots among them, and memory is bounded', async (t) => {
    // Where fewer files may be open, as many as are left for connections (src/open-limits.ts).
    const places = Math.min(20_000, openFiles() - 1000)
    const before = memoryMiB(server)
    const each = Math.ceil(places / 4) + 5
    const crowds = await Promise.all(
      [10, 11, 12, 13].map((net) =>
        crowd(t, { ...asksOnce, port: server.port, count: each, net, tls: 'resumed', reads: true }),
      ),
    )
    await until(place, server, ({ connections, closed }) => connections >= places && closed.connections >= 20)
    await boots(t, place, server, 'node2', 'at once, where others make room')
    await until(place, server, ({ closed }) => closed.connections >= 21)
    const grown = memoryMiB(server) - before
    t.comment(`${Math.round(grown)} MiB more with ${places} connections`)
    t.ok(grown * 2 ** 20 < places * 60_000, `${grown} MiB`)
    await Promise.all(crowds.map((one) => one.leave()))
    await until(place, server, ({ connections }) => connections < 10)
  })

  await t.test('handshakes that are begun and not gone on with, and what is no handshake', async (t) => {
    const before = memoryMiB(server)
    const flood = { port: server.port, tls: false, reads: true }
    const half = await crowd(t, { ...flood, count: 2000, net: 20, says: [hello.toString('base64')] })
    const begun = hello.subarray(0, 40).toString('base64')
    const parts = await crowd(t, { ...flood, count: 1000, net: 21, says: [begun] })
    const garbage = ['GET / HTTP/1.1\r\n\r\n', '\x00'.repeat(600), '\x16\x03\x01\xff\xff', 'PROXY TCP4 '].map(
      base64,
    )
    const noise = await crowd(t, { ...flood, count: 1000, net: 22, says: garbage })
    await boots(t, place, server, 'node3', 'among them')
    const grown = memoryMiB(server) - before
    t.ok(grown < 500, `${grown} MiB`)
    await Promise.all([half, parts, noise].map((one) => one.leave()))
  })

  await t.test('large bodies that come slowly from one site: other sites have room for theirs', async (t) => {
    const token = tokenFromRandom(new Uint8Array(33).fill(0xa7)).text
    const large = (bytes: number): string =>
      `POST /v1/boot/node58/report HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ${token}\r\ncontent-length: ${bytes}\r\n\r\n`
    // 64 MiB of them, and some more.
    const slow = await crowd(t, {
      ...{ port: server.port, count: 1100, net: 23, ofOneAddress: true, tls: true, reads: true },
      says: [base64(large(65_536))],
      trickles: { bytes: base64('m'), everyMilliseconds: 200 },
    })
    t.match(await slow.closed(76), /^HTTP\/1\.1 503 .*retry-after: \d+/is, 'who has the room already')
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/x-www-form-urlencoded' }
    const report = { message: 'error', 'debug.config': 'x'.repeat(30_000) }
    for (let n = 0; n < 5; n += 1) {
      const body = new URLSearchParams(report).toString()
      const { status } = await send(server, 'POST', '/v1/boot/node58/report', headers, body)
      t.equal(status, 403, 'a large report of another site is looked at')
    }
    await boots(t, place, server, 'node58', 'and its node boots')
    await slow.leave()
    const whole = await crowd(t, {
      ...{ port: server.port, count: 1100, net: 24, ofOneAddress: true, tls: true, reads: true },
      says: [base64(large(60_000) + 'm'.repeat(60_000))],
    })
    await boots(t, place, server, 'node59', 'beside large bodies that come at once')
    await whole.leave()
  })

  await t.test('a client of TLS 1.2 cannot shake hands again', async (t) => {
    const child = spawn('openssl', ['s_client', '-connect', `127.0.0.1:${server.port}`, '-tls1_2'])
    t.teardown(() => child.kill('SIGKILL'))
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      if (said.includes('Verify return code') && child.stdin.writable) child.stdin.end('R\n')
    })
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
    await once(child, 'close')
    t.match(said, /RENEGOTIATING[\s\S]*no renegotiation/)
    await boots(t, place, server, 'node4', 'nobody else is the worse for it')
  })

  await t.test('hundreds of ranges are one whole answer, or as many bytes as one', async (t) => {
    const path = await kernelOf(place, server, 'node5')
    const overlapping = Array.from({ length: 500 }, (_, n) => `0-${n + 1}`).join(',')
    const socket = await secured(server)
    const before = memoryMiB(server)
    socket.write(
      `GET ${path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nrange: bytes=${overlapping}\r\n\r\n`,
    )
    let bytes = 0
    let head = ''
    socket.on('data', (chunk: Buffer) => {
      if (head === '') head = chunk.toString('latin1', 0, 400)
      bytes += chunk.length
    })
    await once(socket, 'close')
    t.match(head, /^HTTP\/1\.1 200 OK/)
    t.ok(bytes < place.kernelBytes + 2000, `${bytes} bytes`)
    t.ok(memoryMiB(server) - before < 200, 'once in memory, however many ranges')
  })

  await t.test('who sends thousands of requests ahead is cut off', async (t) => {
    const before = memoryMiB(server)
    const socket = await secured(server)
    const many = 'GET /v1/boot/node57/stage1.ipxe?secret=x HTTP/1.1\r\nhost: a\r\n\r\n'.repeat(20_000)
    socket.resume().write(many)
    await new Promise((resolve) => socket.once('close', resolve))
    await boots(t, place, server, 'node57', 'and its node boots')
    t.ok(memoryMiB(server) - before < 300)
    await until(place, server, ({ closed }) => closed['requests-at-once'] === 1)
    const events = await place.withStorage(({ db }) =>
      db
        .selectFrom('events')
        .selectAll()
        .where('kind', '=', 'refused')
        .where('node', '=', 'node57')
        .execute(),
    )
    t.ok(events.length <= 17, `${events.length} requests of it were looked at`)
  })
})

t.test('each limit is reached, and says so', async (t) => {
  const place = await install(t, 20)
  // Seconds are many enough for a node that boots beside a crowd on a slow machine with much else to do.
  const limits = {
    'max-connections': 60,
    'max-operator-connections': 10,
    'max-connections-per-address': 40,
    'max-new-connections-per-address': 10,
    'max-handshakes-per-address': 20,
    'max-header-bytes': 4096,
    'max-boot-body-bytes': 8192,
    'max-operator-body-bytes': 65_536,
    'header-timeout-seconds': 6,
    'request-timeout-seconds': 7,
    'handshake-timeout-seconds': 6,
    'idle-timeout-seconds': 25,
    'stall-timeout-seconds': 20,
    'max-requests-per-connection': 10,
    'max-boot-work': 2,
    'max-boot-queue': 0,
  }
  const flags = Object.entries(limits).flatMap(([name, value]) => [`--${name}`, String(value)])
  const server = await place.start(['--workers', '1', ...flags])
  const { port } = server
  const listeners = [
    ['boot', port],
    ['operator', operatorPort(place)],
  ] as const

  for (const [name, port] of listeners) {
    await t.test(`slowloris on the ${name} listener: headers that never end`, async (t) => {
      const says = [base64('GET /_ah/health HTTP/1.1\r\nhost: a\r\n')]
      const trickles = { bytes: base64('x: y\r\n'), everyMilliseconds: 200 }
      const slow = await slowCrowd(t, { port, count: 8, net: 40, says, trickles })
      await boots(t, place, server, name === 'boot' ? 'node1' : 'node2', 'a node boots beside them')
      t.match(await slow.closed(8), /^HTTP\/1\.1 408 Request Timeout/)
      await slow.leave()
    })
  }

  await t.test('a body that never ends', async (t) => {
    const says = [base64('POST /v1/boot/node1/report HTTP/1.1\r\nhost: a\r\ncontent-length: 999\r\n\r\n')]
    const trickles = { bytes: base64('m'), everyMilliseconds: 200 }
    const slow = await slowCrowd(t, { port, count: 8, net: 41, says, trickles })
    t.match(await slow.closed(8), /408 Request Timeout/)
    await slow.leave()
  })

  await t.test('headers that are too large', async (t) => {
    const socket = await secured(server)
    socket.write(`GET /_ah/health HTTP/1.1\r\nhost: a\r\nx: ${'x'.repeat(5000)}\r\n\r\n`)
    t.match(await heard(socket), /^HTTP\/1\.1 431 Request Header Fields Too Large/)
  })

  await t.test('bodies that are too large, on either listener', async (t) => {
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    const ask = async (bytes: number): Promise<number> =>
      (await send(server, 'POST', '/v1/boot/node9/stage1.ipxe', form, `serial=${'x'.repeat(bytes)}`)).status
    t.same([await ask(9000), await ask(7000)], [413, 400])
    const authorization = `Bearer ${readFileSync(join(place.folder, 'admin.token'), 'utf8').trim()}`
    const json = { authorization, 'content-type': 'application/json' }
    const operator = { port: operatorPort(place), ca: server.ca }
    const add = async (bytes: number): Promise<number> =>
      (await send(operator, 'POST', '/api/v1/nodes', json, `{"name":"${'x'.repeat(bytes)}"}`)).status
    t.same([await add(70_000), await add(60_000)], [413, 400])
  })

  await t.test('a reader that takes nothing is closed when it has stalled', async (t) => {
    const says = [base64(`GET ${await kernelOf(place, server, 'node10')} HTTP/1.1\r\nhost: a\r\n\r\n`)]
    const deaf = await crowd(t, { port, count: 2, net: 42, tls: true, says, reads: false })
    await until(place, server, ({ downloads }) => downloads === 2)
    await until(place, server, ({ downloads }) => downloads === 0)
    await boots(t, place, server, 'node11', 'and a node boots')
    await deaf.leave()
  })

  await t.test('a connection has so many requests, and one that is idle is closed', async (t) => {
    const socket = await secured(server)
    const text = heard(socket)
    for (let n = 0; n < 10; n += 1) {
      socket.write('GET /_ah/health HTTP/1.1\r\nhost: a\r\n\r\n')
      if (n < 9) await once(socket, 'data')
    }
    t.match((await text).match(/HTTP\/1\.1 200 OK/g), { length: 10 })
    t.match(await text, /connection: close/i)
    const idle = await secured(server)
    idle.write('GET /_ah/health HTTP/1.1\r\nhost: a\r\n\r\n')
    const since = Date.now()
    await heard(idle)
    t.ok(Date.now() - since > 10_500, 'later than iPXE, which keeps one for 10 s')
  })

  /** Shakes hands, asks, and stays: a few at a time, so that no other limit is in the way. */
  const asks = { ...asksOnce, atOnce: 10 }
  const closedBy = async (limit: ConnectionLimit, least: number): Promise<void> => {
    await until(place, server, ({ closed }) => closed[limit] >= least)
    t.pass(`${limit} closed ${least}`)
  }

  await t.test('one address: handshakes, new connections a second, and connections', async (t) => {
    const silent = { says: [], reads: true, port, ofOneAddress: true as const }
    const half = await crowd(t, { ...silent, count: 400, net: 50, tls: false })
    await closedBy('handshakes-of-address', 80) // of the hundred that may come at once twenty are taken
    await closedBy('new-connections-of-address', 40)
    await boots(t, place, server, 'node3', 'a node at another address boots')
    await half.leave()
    const idle = await crowd(t, { ...silent, ...asks, count: 50, net: 51, tls: true })
    await closedBy('connections-of-address', 10)
    await boots(t, place, server, 'node4', 'a node at another address boots')
    await idle.leave()
  })

  await t.test('all places taken: who is idle longest makes room, on both listeners', async (t) => {
    const idle = await crowd(t, { ...asks, reads: true, tls: true, port, count: 90, net: 52 })
    await closedBy('connections', 20)
    await boots(t, place, server, 'node5', 'a node boots')
    await idle.leave()
    const silent = { port: operatorPort(place), says: [], reads: true, tls: true }
    const operators = await crowd(t, { ...silent, count: 30, net: 53 })
    t.ok(await status(place, server), 'an operator is answered')
    await operators.closed(20)
    await operators.leave()
  })

  await t.test('handshakes that are begun on the operator listener', async (t) => {
    const to = { port: operatorPort(place), count: 30 }
    const half = await crowd(t, {
      ...to,
      net: 54,
      tls: false,
      reads: true,
      says: [hello.toString('base64'), ''],
    })
    t.ok(await status(place, server), 'an operator is answered beside handshakes')
    await half.closed(30)
    await half.leave()
  })

  await t.test('who is told to come again spent nothing: no session, no token, no refusal', async (t) => {
    const path = `/v1/boot/node6/stage1.ipxe?secret=${place.secrets.get('node6')}&serial=A&platform=efi`
    const ask = async () => {
      const answers = await Promise.all(Array.from({ length: 12 }, () => send(server, 'GET', path)))
      return answers.filter(({ status }) => status === 503).length
    }
    let told = 0
    for (let n = 0; n < 10 && told === 0; n += 1) told = await ask()
    t.ok(told > 0, `${told} were told`)
    await until(place, server, ({ overloadedSince }) => overloadedSince !== null)
    const kinds = await place.withStorage(({ db }) =>
      db.selectFrom('events').select(['kind', 'node']).execute(),
    )
    const of = (kind: string): number => kinds.filter((event) => event.kind === kind).length
    t.equal(of('overload-began'), 1, 'one event, however many were told')
    t.equal(kinds.filter(({ node, kind }) => node === 'node6' && kind === 'refused').length, 0)
    await boots(t, place, server, 'node7', 'and who comes again boots')
  })
})
