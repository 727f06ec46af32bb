import { EventEmitter } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { Server } from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import t from 'tap'
import { type ConnectionLimits, openConnections } from '../../src/http/connections.ts'
import { openTurns } from '../../src/http/front/turns.ts'
import { until } from '../helpers/until.ts'

/** A socket that only knows whether it is open. */
class FakeSocket extends EventEmitter {
  destroyed = false
  destroy(): this {
    if (this.destroyed) return this
    this.destroyed = true
    this.emit('close')
    return this
  }
  resetAndDestroy(): this {
    return this.destroy()
  }
}

const newSocket = (): Socket => new FakeSocket() as unknown as Socket // all that is used of one

function world(limits: Partial<ConnectionLimits> = {}) {
  let seconds = 0
  const connections = openConnections(
    { maxConnections: 100, maxConnectionsPerAddress: 50, maxNewConnectionsPerAddress: 10, ...limits },
    () => seconds,
  )
  const server = new EventEmitter() as unknown as Server
  connections.watch(server)
  return {
    connections,
    server,
    wait: (more: number) => {
      seconds += more
    },
    /** A connection whose handshake is over. */
    connected(address: string) {
      const raw = newSocket()
      if (!connections.accept(raw, address)) return raw
      const socket = Object.assign(newSocket(), { _parent: raw })
      socket.once('close', () => raw.destroy())
      server.emit('secureConnection', socket)
      return socket
    },
  }
}

t.test('one address has so many connections; an IPv6 /64 is one', async (t) => {
  const { connections } = world({ maxConnectionsPerAddress: 2 })
  const first = newSocket()
  t.equal(connections.accept(first, '2001:db8::1'), true)
  t.equal(connections.accept(newSocket(), '2001:db8::2'), true)
  t.equal(connections.accept(newSocket(), '2001:db8::3'), false)
  t.equal(connections.accept(newSocket(), '2001:db8:0:1::1'), true, 'another /64')
  first.destroy()
  t.equal(connections.accept(newSocket(), '2001:db8::3'), true, 'one that ends makes room')
  t.match(connections.closed(), { 'connections-of-address': 1 })
  t.equal(connections.count(), 3)
})

t.test('new connections of one address: ten seconds of them at once, then so many a second', async (t) => {
  const { connections, wait } = world({ maxConnections: 1000, maxConnectionsPerAddress: 1000 })
  const taken = (address: string, count: number): number =>
    Array.from({ length: count }, () => connections.accept(newSocket(), address)).filter(Boolean).length
  t.equal(taken('192.0.2.1', 150), 100)
  t.equal(taken('192.0.2.2', 5), 5, 'another address is not held up')
  wait(1)
  t.equal(taken('192.0.2.1', 50), 10)
  wait(1000)
  t.equal(taken('192.0.2.1', 150), 100, 'never more than ten seconds of them')
})

t.test(
  'addresses that are counted have a bound: of 20,000 the one that was quiet longest is forgotten',
  async (t) => {
    const { connections } = world({ maxConnectionsPerAddress: 1000 })
    const take = (address: string): boolean => {
      const socket = newSocket()
      const taken = connections.accept(socket, address)
      socket.destroy()
      return taken
    }
    for (const address of ['192.0.2.1', '192.0.2.2']) for (let n = 0; n < 100; n += 1) take(address)
    for (let n = 0; n < 19_998; n += 1) take(`10.0.${n >> 8}.${n & 255}`)
    t.equal(take('192.0.2.1'), false, 'as many as there may be are known')
    t.ok(take('10.1.0.1'))
    t.equal(take('192.0.2.2'), true, 'the quietest made room')
    t.equal(take('192.0.2.1'), false, 'and who asked meanwhile did not')
  },
)

t.test('who is behind a proxy is counted when the proxy has told, and the proxy is not', async (t) => {
  const { connections } = world({ maxConnectionsPerAddress: 1 })
  const [one, two] = [newSocket(), newSocket()]
  t.equal(connections.accept(one, undefined), true)
  t.equal(connections.accept(two, undefined), true)
  t.equal(connections.countFor(one, '192.0.2.1'), true)
  t.equal(connections.countFor(two, '192.0.2.1'), false)
  t.equal(two.destroyed, true)
  t.equal(connections.count(), 1)
})

t.test(
  'where all places are taken, the one that is idle longest makes room; who is served does not',
  async (t) => {
    const { connections, server, connected } = world({ maxConnections: 3 })
    const sockets = [connected('192.0.2.1'), connected('192.0.2.2'), connected('192.0.2.3')]
    const response = new EventEmitter()
    server.emit('request', { socket: sockets[0], headers: {} }, response)
    const fourth = connected('192.0.2.4')
    t.same(
      sockets.map(({ destroyed }) => destroyed),
      [false, true, false],
    )
    response.emit('close')
    connected('192.0.2.5')
    t.same(
      [sockets[0]?.destroyed, sockets[2]?.destroyed, fourth.destroyed],
      [false, true, false],
      'it is idle again, since now',
    )
    t.match(connections.closed(), { connections: 2 })
    t.equal(connections.count(), 3)
  },
)

t.test(
  'where nobody is idle, who has not sent its whole body for longest makes room: two addresses cannot fill the table by dripping',
  async (t) => {
    const { connections, server, connected } = world({ maxConnections: 4 })
    const request = (socket: Socket, headers: Record<string, string>): EventEmitter => {
      const asked = Object.assign(new EventEmitter(), { socket, headers })
      server.emit('request', asked, new EventEmitter())
      return asked
    }
    const [served, drips, whole, chunks] = [1, 2, 3, 4].map((n) => connected(`192.0.2.${n}`)) as Socket[]
    request(served as Socket, { 'content-length': '0' })
    request(drips as Socket, { 'content-length': '20' })
    request(whole as Socket, { 'content-length': '20' }).emit('end')
    request(chunks as Socket, { 'transfer-encoding': 'chunked' })
    const states = (): boolean[] => [served, drips, whole, chunks].map((one) => one?.destroyed === true)
    const late = connected('192.0.2.5')
    t.same(states(), [false, true, false, false], 'the first that drips')
    request(late, {})
    const later = connected('192.0.2.6')
    t.same(states(), [false, true, false, true], 'and then the next')
    request(later, {})
    t.equal(connected('192.0.2.7').destroyed, true, 'whoever is worked for stays, and there is no room')
    t.match(connections.closed(), { connections: 3 })
    t.equal(connections.count(), 4)
  },
)

t.test(
  'a body that drips behind another request makes room too, and an operator who sends for an hour does not',
  async (t) => {
    const { connections, server, connected } = world({ maxConnections: 2 })
    const request = (socket: Socket, headers: Record<string, string>) => {
      const [asked, response] = [Object.assign(new EventEmitter(), { socket, headers }), new EventEmitter()]
      server.emit('request', asked, response)
      return { asked: asked as unknown as IncomingMessage, response }
    }
    const [uploads, ahead] = [connected('192.0.2.1'), connected('192.0.2.2')]
    connections.keep(request(uploads, { 'content-length': '8589934592' }).asked)
    const { response } = request(ahead, {})
    request(ahead, { 'content-length': '20' })
    response.emit('close')
    connected('192.0.2.3')
    t.same([uploads.destroyed, ahead.destroyed], [false, true])
  },
)

t.test(
  'where all are served, those that have taken no byte of their answer for ten seconds make room',
  async (t) => {
    const { connections, server, connected, wait } = world({ maxConnections: 3 })
    const sockets = ['192.0.2.1', '192.0.2.2', '192.0.2.3'].map((address) =>
      Object.assign(connected(address), { bytesWritten: 100, writableLength: 50 }),
    )
    for (const socket of sockets) server.emit('request', { socket, headers: {} }, new EventEmitter())
    const [, reads, follows] = sockets
    if (reads === undefined || follows === undefined) throw new Error('there are three')
    follows.writableLength = 0 // it waits for events, and has read what there was
    t.equal(connections.accept(newSocket(), '192.0.2.4'), false, 'they have just been seen')
    wait(9)
    reads.bytesWritten += 1
    t.equal(connections.accept(newSocket(), '192.0.2.4'), false)
    wait(1)
    t.equal(connections.accept(newSocket(), '192.0.2.4'), true)
    t.same(
      sockets.map(({ destroyed }) => destroyed),
      [true, false, false],
    )
  },
)

t.test(
  'an answer that waits for its turn when its connection ends is over, whatever Node does',
  async (t) => {
    const { server, connected } = world()
    const socket = connected('192.0.2.1')
    let told = ''
    const answer = (name: string, more: object): void => {
      const response = Object.assign(new EventEmitter(), {
        socket: null,
        closed: false,
        destroy() {},
        ...more,
      })
      response.on('close', () => (told += name))
      server.emit('request', { socket, headers: {} }, response)
    }
    answer('its turn ', { socket })
    answer('closed by Node ', { closed: true })
    answer('waits', {})
    socket.destroy()
    await Promise.resolve()
    t.equal(told, 'waits', 'Node tells of the others')
  },
)

t.test('answers of requests that were sent ahead are over when their connection is', async (t) => {
  const { connections } = world()
  const responses: { readonly closed: () => number }[] = []
  const server = createServer((_request, response) => {
    let closed = 0
    response.on('close', () => (closed += 1))
    responses.push({ closed: () => closed })
    if (responses.length === 3) response.end('it waits for those before it')
  })
  connections.watch(server as unknown as Server) // all that is used of one, but for its handshakes
  server.on('connection', (socket) => server.emit('secureConnection', socket))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {})
  client.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n'.repeat(4))
  await until(t, async () => responses.length, 4)
  client.resetAndDestroy()
  await until(t, async () => responses.map(({ closed }) => closed()), [1, 1, 1, 1])
})

t.test('where nobody is idle, who comes last is not taken', async (t) => {
  const { connections } = world({ maxConnections: 2 })
  t.equal(connections.accept(newSocket(), '192.0.2.1'), true)
  t.equal(connections.accept(newSocket(), '192.0.2.2'), true)
  t.equal(connections.accept(newSocket(), '192.0.2.3'), false)
})

t.test('a connection has sixteen requests under way at one time, or is closed', async (t) => {
  const { connections, server, connected } = world()
  const socket = connected('192.0.2.1')
  for (let n = 0; n < 16; n += 1) server.emit('request', { socket, headers: {} }, new EventEmitter())
  t.equal(socket.destroyed, false)
  server.emit('request', { socket, headers: {} }, new EventEmitter())
  t.equal(socket.destroyed, true)
  t.match(connections.closed(), { 'requests-at-once': 1 })
})

t.test('handshakes have turns: eight at a time, and sites alternate', async (t) => {
  const turns = openTurns()
  const begun: string[] = []
  const push = (site: string, name: string): Socket => {
    const socket = newSocket()
    turns.push(socket, site, () => begun.push(name))
    return socket
  }
  for (let n = 1; n <= 100; n += 1) push('192.0.2.1', `large ${n}`)
  const left = push('198.51.100.1', 'left')
  for (let n = 1; n <= 2; n += 1) push('198.51.100.1', `small ${n}`)
  turns.leave(left)
  t.equal(begun.length, 8, 'at once, where there is room')
  t.equal(turns.waiting(), 94)
  await new Promise((resolve) => setImmediate(resolve))
  t.same(begun.slice(8, 12), ['large 9', 'small 1', 'large 10', 'small 2'])
  while (turns.waiting() > 0) await new Promise((resolve) => setImmediate(resolve))
  t.equal(begun.length, 102)
})
