import { spawn, spawnSync } from 'node:child_process'
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import t, { type Test } from 'tap'
import { isPawlError } from '../../src/errors.ts'
import { fixedFiles, type NodeScripts } from '../../src/tftp/files.ts'
import { encodePacket, type Option, type Packet, parsePacket } from '../../src/tftp/packet.ts'
import { openTftpServer, type TftpServer } from '../../src/tftp/server.ts'
import { seeded } from '../helpers/seeded.ts'
import { badLink, fetchTftp } from '../helpers/tftp-client.ts'

const random = seeded(3)
const megabyte = Buffer.from(Array.from({ length: 2 ** 20 }, () => Math.floor(random() * 256)))
const files = [
  { name: 'ipxe.efi', bytes: megabyte },
  { name: 'small', bytes: megabyte.subarray(0, 10_000) },
  { name: 'even', bytes: megabyte.subarray(0, 1024) },
  { name: 'empty', bytes: Buffer.alloc(0) },
  { name: 'autoexec.ipxe', bytes: Buffer.from('#!ipxe\necho everyone\n') },
]
const limits = {
  maxBlockSize: 65_464,
  maxWindowSize: 64,
  maxTransfers: 10_000,
  maxTransfersPerClient: 256,
  giveUpSeconds: 30,
}

interface Opened {
  readonly server: TftpServer
  readonly lines: Record<string, unknown>[]
  /** Moves the server's clock ahead. */
  advance(milliseconds: number): void
}

async function open(
  t: Test,
  {
    host = '127.0.0.1',
    nodeScripts,
    isFrozen = false,
    ...some
  }: Partial<typeof limits> & { host?: string; nodeScripts?: NodeScripts; isFrozen?: boolean } = {},
): Promise<Opened> {
  const lines: Record<string, unknown>[] = []
  let ahead = 0
  const server = await openTftpServer({
    listen: { host, port: 0 },
    files: fixedFiles(files, nodeScripts),
    limits: { ...limits, ...some },
    now: () => (isFrozen ? 1000 : performance.now()) + ahead,
    log: pino({ base: null }, { write: (line: string) => lines.push(JSON.parse(line)) }),
  })
  t.teardown(() => server.close(0))
  return {
    server,
    lines,
    advance: (milliseconds) => {
      ahead += milliseconds
    },
  }
}

/** Waits for what another task does; not for ever. */
async function comes(isSo: () => boolean): Promise<void> {
  for (const end = performance.now() + 300_000; !isSo() && performance.now() < end; )
    await new Promise((resolve) => setTimeout(resolve, 2))
  if (!isSo()) throw new Error('it did not come')
}

/** A client by hand: sends what it is told and keeps what comes. */
interface Hand {
  readonly socket: Socket
  send(packet: Packet | string, port: number): void
  /** The next packet that comes. */
  next(): Promise<{ packet: Packet | { kind: 'malformed' }; from: RemoteInfo }>
  readonly heard: () => number
}

async function hand(t: Test, address = '127.0.0.1'): Promise<Hand> {
  const socket = createSocket('udp4')
  socket.bind(0, address)
  await once(socket, 'listening')
  t.teardown(() => socket.close())
  const come: { packet: Packet | { kind: 'malformed' }; from: RemoteInfo }[] = []
  const waiting: ((come: { packet: Packet | { kind: 'malformed' }; from: RemoteInfo }) => void)[] = []
  let heard = 0
  socket.on('message', (bytes, from) => {
    heard += 1
    const one = { packet: parsePacket(bytes), from }
    const first = waiting.shift()
    if (first === undefined) come.push(one)
    else first(one)
  })
  return {
    socket,
    send: (packet, port) =>
      socket.send(
        typeof packet === 'string' ? Buffer.from(packet, 'latin1') : encodePacket(packet),
        port,
        '127.0.0.1',
      ),
    next: () => {
      const first = come.shift()
      return first === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(first)
    },
    heard: () => heard,
  }
}

const read = (name: string, options: readonly Option[] = [], mode = 'octet'): Packet => ({
  kind: 'read',
  name,
  mode,
  options,
})
const ack = (block: number): Packet => ({ kind: 'ack', block })

t.test('what is refused gets an error with words, and no file', async (t) => {
  const { server, lines } = await open(t)
  const { send, next } = await hand(t)
  const cases: [packet: Packet | string, code: number, message: string][] = [
    [{ kind: 'write', name: 'ipxe.efi', mode: 'octet', options: [] }, 2, 'this server is read-only'],
    [read('ipxe.efi', [], 'netascii'), 4, 'only mode octet is served: ask for binary'],
    [read('ipxe.efi', [], 'MAIL'), 4, 'only mode octet is served: ask for binary'],
    [read('ipxe.efi', [['blksize', '4']]), 8, 'block size 4 is below 8 (RFC 2348)'],
    [read('ipxe.efi', [['windowsize', '0']]), 8, 'window size 0 is below 1 (RFC 7440)'],
    [
      read('ipxe.efi', [
        ['tsize', '0'],
        ['TSIZE', '0'],
      ]),
      8,
      'option tsize is given twice (RFC 2347)',
    ],
    ['\0', 4, '1 bytes are no TFTP packet'],
    ['', 4, '0 bytes are no TFTP packet'],
    ['\0\x01ipxe.efi\0octet', 4, 'a text without its NUL'],
    [`\0\x01${'a'.repeat(300)}\0octet\0`, 4, 'a file name of 300 bytes, over 255'],
    ['\0\x01ipxe.efi\xff\0octet\0', 4, 'a byte that is not printable ASCII'],
    ['\0\x09ipxe.efi\0octet\0', 4, 'operation 9 is not one of TFTP'],
    ['\0\x06blksize\x008\0', 0, ''],
  ]
  for (const [packet, code, message] of cases.slice(0, -1)) {
    send(packet, server.port)
    t.match((await next()).packet, { kind: 'error', code, message }, message)
  }
  for (const name of [
    'none',
    '',
    '.',
    '/',
    '..',
    '../ipxe.efi',
    '/../ipxe.efi',
    './../ipxe.efi',
    'a/../ipxe.efi',
    'ipxe.efi/',
    'IPXE.EFI',
    '\\ipxe.efi',
    '/etc/passwd',
    'mac-52-54-00-12-34-56/none',
    'mac-52-54-00-12-34/ipxe.efi',
    '__proto__',
    'constructor',
  ]) {
    send(name === '' ? '\0\x01 \0octet\0' : read(name), server.port)
    t.match((await next()).packet, { kind: 'error', code: 1, message: 'file not found' }, name)
  }
  t.match(lines.at(-1), { client: '127.0.0.1', why: 'file not found', file: 'constructor' })
  t.equal(server.open(), 0)
})

t.test('an ERROR, an ACK, DATA or an OACK to the port of requests gets nothing', async (t) => {
  const { server } = await open(t)
  const { send, next, heard } = await hand(t)
  for (const packet of ['\0\x05\0\x01x\0', '\0\x05', '\0\x04\0\0', '\0\x03\0\x01abc', '\0\x06a\x001\0'])
    send(packet, server.port)
  send(read('none'), server.port)
  t.match((await next()).packet, { kind: 'error', code: 1 })
  t.equal(heard(), 1)
})

t.test('names are found as firmware writes them', async (t) => {
  const { server } = await open(t)
  for (const name of [
    'small',
    '/small',
    './small',
    '//small',
    '/./small',
    'mac-52-54-00-12-34-56/small',
    '/MAC-52-54-00-AB-CD-EF/small',
  ]) {
    const { content } = await fetchTftp({ port: server.port, name })
    t.ok(content.equals(megabyte.subarray(0, 10_000)), name)
  }
})

t.test('every byte arrives, whatever is agreed', async (t) => {
  const { server } = await open(t)
  const cases: [name: string, options: Option[]][] = [
    ['ipxe.efi', []],
    [
      'ipxe.efi',
      [
        ['blksize', '1468'],
        ['tsize', '0'],
      ],
    ],
    [
      'ipxe.efi',
      [
        ['BLKSIZE', '8192'],
        ['WindowSize', '16'],
      ],
    ],
    [
      'ipxe.efi',
      [
        ['blksize', '65464'],
        ['windowsize', '2'],
        ['timeout', '2'],
        ['multicast', ''],
      ],
    ],
    [
      'ipxe.efi',
      [
        ['blksize', '15'],
        ['windowsize', '64'],
      ],
    ], // 69,906 blocks: past 65535
    ['even', [['blksize', '512']]],
    [
      'even',
      [
        ['blksize', '1024'],
        ['windowsize', '8'],
      ],
    ],
    [
      'empty',
      [
        ['tsize', '0'],
        ['blksize', '512'],
      ],
    ],
    ['empty', []],
  ]
  for (const [name, options] of cases) {
    const { content } = await fetchTftp({ port: server.port, name, options })
    const file = files.find((one) => one.name === name)
    t.ok(file !== undefined && content.equals(file.bytes), `${name} ${options.join(' ')}`)
  }
  await comes(() => server.open() === 0)
})

t.test('through a network that loses, doubles and reorders, every byte arrives', async (t) => {
  const { server } = await open(t)
  const offers: Option[][] = [
    [],
    [['blksize', '1468']],
    [
      ['blksize', '1024'],
      ['windowsize', '4'],
    ],
    [
      ['blksize', '512'],
      ['windowsize', '16'],
      ['timeout', '1'],
    ],
  ]
  const runs = offers.flatMap((options) => Array.from({ length: 10 }, (_, seed) => ({ options, seed })))
  await Promise.all(
    runs.map(async ({ options, seed }) => {
      const link = badLink(seed + 1, { drop: 0.05, double: 0.05, delay: 0.1 })
      const { content } = await fetchTftp({ port: server.port, name: 'small', options, link, patience: 200 })
      t.ok(content.equals(megabyte.subarray(0, 10_000)), `${options.join(' ')}, seed ${seed}`)
    }),
  )
})

t.test('packets of others change nothing and get ERROR 5 (TID)', async (t) => {
  const { server } = await open(t, { isFrozen: true })
  const peer = await hand(t)
  const stranger = await hand(t)
  const elsewhere = await hand(t, '127.0.0.2')
  peer.send(read('small', [['blksize', '1000']]), server.port)
  const { from } = await peer.next()
  t.not(from.port, server.port, 'a port of its own')
  for (const one of [stranger, elsewhere]) {
    one.send(ack(0), from.port)
    t.match((await one.next()).packet, { kind: 'error', code: 5, message: 'unknown transfer' })
    one.send('\0\x05\0\0I am not the peer\0', from.port)
    one.send({ kind: 'data', block: 1, payload: Buffer.alloc(3) }, from.port)
    t.match((await one.next()).packet, { kind: 'error', code: 5 })
    t.equal(one.heard(), 2, 'an ERROR gets no answer')
  }
  t.equal(server.open(), 1)
  for (let block = 0; block < 11; block += 1) {
    peer.send(ack(block), from.port)
    t.match((await peer.next()).packet, { kind: 'data', block: block + 1 })
  }
  t.equal(peer.heard(), 12, 'nothing was sent twice')
})

t.test('one port of a peer may open several transfers, each at another port of ours', async (t) => {
  const { server } = await open(t, { isFrozen: true })
  const { send, next } = await hand(t)
  const ports = new Set<number>()
  for (const name of ['small', 'even', 'ipxe.efi']) {
    send(read(name, [['tsize', '0']]), server.port)
    ports.add((await next()).from.port)
  }
  t.equal(ports.size, 3)
  t.equal(server.open(), 3)
})

t.test(
  'the same request again gets the same answer from the same port, and no second transfer',
  async (t) => {
    const { server } = await open(t, { isFrozen: true })
    const { send, next } = await hand(t)
    const answers = []
    for (let i = 0; i < 3; i += 1) {
      send(read('small', [['tsize', '0']]), server.port)
      answers.push(await next())
    }
    t.same(
      answers.map(({ packet }) => packet),
      Array(3).fill({ kind: 'oack', options: [['tsize', '10000']] }),
    )
    t.equal(new Set(answers.map(({ from }) => from.port)).size, 1)
    t.equal(server.open(), 1)
  },
)

t.test('firmware that asks for the size and leaves ends the transfer quietly', async (t) => {
  const { server, lines } = await open(t)
  const { send, next } = await hand(t)
  send(read('ipxe.efi', [['tsize', '0']]), server.port)
  const { packet, from } = await next()
  t.same(packet, { kind: 'oack', options: [['tsize', '1048576']] })
  send('\0\x05\0\x08User aborted the transfer', from.port) // without its NUL, too
  await comes(() => server.open() === 0)
  t.match(lines, [{ level: 30, file: 'ipxe.efi', outcome: 'aborted', bytes: 0 }])
})

t.test('a client that is killed is given up, and others are served meanwhile', async (t) => {
  const { server, lines } = await open(t, { giveUpSeconds: 4 })
  const killed = await hand(t)
  killed.send(
    read('ipxe.efi', [
      ['windowsize', '4'],
      ['tsize', '0'],
    ]),
    server.port,
  )
  const { from } = await killed.next()
  killed.send(ack(0), from.port)
  await killed.next()
  t.ok((await fetchTftp({ port: server.port, name: 'small' })).content.length === 10_000)
  await comes(() => server.open() === 0)
  const line = lines.find(({ outcome }) => outcome === 'silent')
  t.match(line, { file: 'ipxe.efi', bytes: 0, outcome: 'silent' })
})

t.test('who forges a source makes us send little to it, and then nothing', async (t) => {
  const { server, advance } = await open(t, { isFrozen: true })
  const victim = await hand(t)
  for (let i = 0; i < 2000; i += 1) victim.send(read(`small`, [['x', String(i)]]), server.port)
  await fetchTftp({ port: server.port, name: 'small', from: '127.0.0.3' }) // behind all of them
  t.ok(victim.heard() <= 256, `${victim.heard()} answers of 516 bytes to 2000 requests`)
  await comes(() => server.open() <= 8)
  const [before, transfers] = [victim.heard(), server.open()]
  t.ok(transfers <= 8, `${transfers} transfers with one port of a peer`)
  await comes(() => {
    advance(50)
    return server.open() === 0
  })
  t.ok(victim.heard() - before <= 2 * transfers, 'each first packet comes three times at most')
})

t.test(
  'who forges a source cannot acknowledge in its name: our port is a guess, and the first must hit',
  async (t) => {
    const { server, lines } = await open(t, { isFrozen: true })
    const ports: number[] = []
    for (let i = 0; i < 40; i += 1) {
      const one = await hand(t)
      one.send(read('small', [['tsize', '0']]), server.port)
      ports.push((await one.next()).from.port)
    }
    // By chance 37 of 256; fewer than 25 would come once in 10^11 runs.
    t.ok(new Set(ports).size >= 25, `${new Set(ports).size} of our ports are seen by 40 transfers`)
    const victim = await hand(t, '127.0.0.2')
    victim.send(read('ipxe.efi', [['windowsize', '64']]), server.port)
    const { from } = await victim.next()
    const guess = ports.find((port) => port !== from.port) ?? 0
    victim.send(ack(0), guess)
    t.match((await victim.next()).packet, { kind: 'error', code: 5 })
    victim.send(ack(0), from.port)
    t.match((await victim.next()).packet, { kind: 'error', code: 5 }, 'and then not a block of the file')
    t.equal(victim.heard(), 3)
    t.match(lines, [{ client: '127.0.0.2', outcome: 'astray', bytes: 0 }])
    victim.send(read('ipxe.efi', [['windowsize', '2']]), server.port)
    const again = await victim.next()
    victim.send(ack(0), again.from.port)
    for (const block of [1, 2]) t.match((await victim.next()).packet, { kind: 'data', block })
    victim.send(ack(0), ports.find((port) => port !== again.from.port) ?? 0)
    t.match((await victim.next()).packet, { kind: 'error', code: 5 })
    victim.send(ack(2), again.from.port)
    t.match((await victim.next()).packet, { kind: 'data', block: 3 }, 'one that is answered is not ended')
  },
)

t.test('10,000 open transfers: memory is bounded, and a newcomer is served', async (t) => {
  const { server, advance } = await open(t, {
    isFrozen: true,
    maxTransfers: 10_000,
    maxTransfersPerClient: 100,
  })
  const heapUsed = (): number => {
    globalThis.gc?.()
    return process.memoryUsage().heapUsed + process.memoryUsage().external
  }
  const before = heapUsed()
  const sockets: Socket[] = []
  t.teardown(() => {
    for (const socket of sockets) socket.close()
  })
  for (let unit = 0; unit < 1250; unit += 1) {
    const socket = createSocket('udp4')
    sockets.push(socket)
    socket.bind(0, `127.1.${unit >> 8}.${unit & 255}`)
    await once(socket, 'listening')
  }
  const ask = (socket: Socket, i: number): void =>
    socket.send(encodePacket(read('ipxe.efi', [['blksize', String(1000 + i)]])), server.port, '127.0.0.1')
  for (let i = 0; i < 8; i += 1) {
    for (let first = 0; first < sockets.length; first += 50) {
      const expected = Math.min(10_000, i * sockets.length + first + 50)
      for (const socket of sockets.slice(first, first + 50)) ask(socket, i)
      await comes(() => server.open() >= expected)
    }
  }
  t.equal(server.open(), 10_000)
  const grown = (heapUsed() - before) / server.open()
  t.ok(grown < 5000, `${Math.round(grown)} bytes for each of ${server.open()} transfers`)
  advance(100)
  const { content } = await fetchTftp({ port: server.port, name: 'small', from: '127.0.0.9' })
  t.equal(content.length, 10_000)
  t.ok(server.open() <= 10_000)
})

t.test('a full server lets the oldest go that nobody answered, never one that is served', async (t) => {
  const { server, lines } = await open(t, { isFrozen: true, maxTransfers: 3 })
  const served = await hand(t)
  served.send(read('small', [['tsize', '0']]), server.port)
  const { from } = await served.next()
  served.send(ack(0), from.port)
  await served.next()
  for (let i = 0; i < 20; i += 1) {
    const forged = await hand(t, `127.2.0.${i + 1}`)
    forged.send(read('small', [['tsize', '0']]), server.port)
    await forged.next()
    t.ok(server.open() <= 3)
  }
  served.send(ack(1), from.port)
  t.match((await served.next()).packet, { kind: 'data', block: 2 })
  t.ok(lines.some(({ outcome }) => outcome === 'evicted'))
})

t.test(
  'a client over its limit loses its oldest that stalls; while none does, it hears nothing',
  async (t) => {
    const { server, advance, lines } = await open(t, { isFrozen: true, maxTransfersPerClient: 2 })
    const ports: number[] = []
    for (let i = 0; i < 2; i += 1) {
      const one = await hand(t)
      one.send(read('small', [['tsize', '0']]), server.port)
      const { from } = await one.next()
      one.send(ack(0), from.port)
      await one.next()
      ports.push(from.port)
    }
    const third = await hand(t)
    third.send(read('small', [['tsize', '0']]), server.port)
    await comes(() => lines.some(({ why }) => why === 'too many transfers'))
    t.equal(third.heard(), 0)
    t.ok(
      (await fetchTftp({ port: server.port, name: 'small', from: '127.0.0.7' })).bytes,
      'others are served',
    )
    advance(3000)
    third.send(read('small', [['tsize', '0']]), server.port)
    t.match((await third.next()).packet, { kind: 'oack' })
    t.ok(server.open() <= 2)
  },
)

t.test('no datagram of any kind makes it fail, nor the log grow with it', async (t) => {
  const { server, lines } = await open(t)
  const noise = seeded(11)
  const one = await hand(t)
  one.send(read('ipxe.efi', [['tsize', '0']]), server.port)
  const { from } = await one.next()
  for (let i = 0; i < 5000; i += 1) {
    const length = Math.floor(noise() * 60)
    const bytes = Buffer.from(
      Array.from({ length }, (_, at) =>
        at === 0 ? 0 : at === 1 ? Math.floor(noise() * 8) : Math.floor(noise() * 256),
      ),
    )
    one.send(bytes.toString('latin1'), noise() < 0.5 ? server.port : from.port)
    if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  t.equal((await fetchTftp({ port: server.port, name: 'small', from: '127.0.0.5' })).bytes, 10_000)
  t.notOk(
    lines.some(({ level }) => level === 50),
    'nothing failed',
  )
  t.ok(lines.length <= 65, `${lines.length} lines`)
})

t.test('serves IPv4 and IPv6 at one port', async (t) => {
  const { server, lines } = await open(t, { host: '::' })
  for (const host of ['127.0.0.1', '::1'])
    t.equal(
      (await fetchTftp({ port: server.port, host, name: 'small', options: [['windowsize', '4']] })).bytes,
      10_000,
      host,
    )
  await comes(() => lines.length === 2)
  t.match(lines, [
    { client: '127.0.0.1', outcome: 'done', bytes: 10_000 },
    { client: '::1', outcome: 'done', bytes: 10_000 },
  ])
})

t.test('a host that is named is looked up', async (t) => {
  const { server } = await open(t, { host: 'localhost' })
  const { address } = await lookup('localhost')
  t.equal((await fetchTftp({ port: server.port, host: address, name: 'small' })).bytes, 10_000)
  const host = `${'a'.repeat(64)}.test` // no name server is asked: a label is too long
  const error = await open(t, { host }).catch((error: unknown) => error)
  t.ok(isPawlError(error, 'usage'))
  t.equal((error as Error).message, `cannot listen for TFTP: ${host} has no address`)
})

t.test('a port that is taken is said in words', async (t) => {
  const { server } = await open(t)
  const again = openTftpServer({
    listen: { host: '127.0.0.1', port: server.port },
    files: fixedFiles(files),
    limits,
    now: () => 0,
    log: pino({ level: 'silent' }),
  })
  const error = await again.catch((error: unknown) => error)
  t.ok(isPawlError(error, 'usage'))
  t.equal((error as Error).message, `cannot listen for TFTP on 127.0.0.1 port ${server.port} (EADDRINUSE)`)
})

t.test('a server that stops lets transfers finish', async (t) => {
  const { server } = await open(t, { isFrozen: true })
  const { send, next } = await hand(t)
  send(read('even', [['tsize', '0']]), server.port)
  const { from } = await next()
  const closed = server.close(300_000)
  for (const block of [0, 1, 2]) {
    send(ack(block), from.port)
    t.match((await next()).packet, { kind: 'data', block: block + 1 })
  }
  send(ack(3), from.port)
  await closed
  t.equal(server.open(), 0)
})

t.test('and tells who is left when its grace is over', async (t) => {
  const { server } = await open(t, { isFrozen: true })
  const left = await hand(t)
  left.send(read('ipxe.efi'), server.port)
  await left.next()
  await server.close(20)
  t.match((await left.next()).packet, { kind: 'error', code: 0, message: 'the server stops' })
  t.equal(server.open(), 0)
})

t.test(
  'the script of a node is for who asks by its MAC address or from its address; others get everyone’s',
  async (t) => {
    const asked: object[] = []
    const nodeScripts: NodeScripts = async (of) => {
      asked.push(of)
      const isKnown = 'mac' in of ? of.mac === '52:54:00:12:34:56' : of.address === '127.0.0.4'
      return isKnown ? '#!ipxe\necho node mlab1\n' : undefined
    }
    const { server } = await open(t, { nodeScripts })
    const text = async (name: string, from: string): Promise<string> =>
      (await fetchTftp({ port: server.port, name, from })).content.toString()
    t.match(await text('autoexec.ipxe', '127.0.0.4'), 'node mlab1')
    t.match(await text('autoexec.ipxe', '127.0.0.5'), 'everyone')
    t.match(await text('/mac-52-54-00-12-34-56/autoexec.ipxe', '127.0.0.5'), 'node mlab1')
    t.match(await text('mac-52-54-00-00-00-01/autoexec.ipxe', '127.0.0.4'), 'everyone')
    await text('small', '127.0.0.4')
    t.same(asked, [
      { address: '127.0.0.4' },
      { address: '127.0.0.5' },
      { mac: '52:54:00:12:34:56' },
      { mac: '52:54:00:00:00:01' },
    ])
  },
)

/** Options of a test that needs a program: skipped by name where it is absent, and failing there with PAWL_REQUIRE=all. */
function needs(program: string): { skip?: string } {
  const isThere = spawnSync('sh', ['-c', `command -v ${program}`]).status === 0
  return isThere || process.env.PAWL_REQUIRE === 'all' ? {} : { skip: `${program} is not installed` }
}

async function run(
  program: string,
  args: readonly string[],
  input = '',
): Promise<{ status: number | null; said: string }> {
  const child = spawn(program, args, { stdio: 'pipe' })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (part) => (said += part))
  child.stdin.end(input)
  const [status] = (await once(child, 'close')) as [number | null]
  return { status, said }
}

function folder(t: Test): string {
  const made = mkdtempSync(join(tmpdir(), 'pawl-tftp-'))
  t.teardown(() => rmSync(made, { recursive: true, force: true }))
  return made
}

t.test('curl fetches, also what is empty, and hears what is refused', needs('curl'), async (t) => {
  const { server } = await open(t)
  const out = join(folder(t), 'got')
  const url = `tftp://127.0.0.1:${server.port}`
  for (const [name, ...args] of [
    ['ipxe.efi'],
    ['ipxe.efi', '--tftp-blksize', '1468'],
    ['/small', '--tftp-no-options'],
    ['empty'],
  ]) {
    const { status, said } = await run('curl', [
      '-sS',
      '--max-time',
      '30',
      '-o',
      out,
      ...args,
      `${url}/${name}`,
    ])
    t.equal(status, 0, said)
    const file = files.find((one) => one.name === name?.replace('/', ''))
    // curl writes no file where nothing came.
    if (name !== 'empty')
      t.ok(readFileSync(out).equals(file?.bytes ?? Buffer.alloc(0)), `${name} ${args.join(' ')}`)
  }
  t.equal((await run('curl', ['-sS', '--max-time', '30', `${url}/none`])).status, 68, 'not found')
  const upload = await run('curl', ['-sS', '--max-time', '30', '-T', '/dev/null', `${url}/ipxe.efi`])
  t.equal(upload.status, 69, 'permission')
})

t.test('tftp-hpa fetches in binary, and is told to', needs('tftp'), async (t) => {
  const { server } = await open(t)
  const out = join(folder(t), 'got')
  await run('tftp', ['127.0.0.1', String(server.port)], `mode binary\nget ipxe.efi ${out}\nquit\n`)
  t.ok(readFileSync(out).equals(megabyte))
  const { said } = await run('tftp', ['127.0.0.1', String(server.port)], `get ipxe.efi ${out}2\nquit\n`)
  t.match(said, 'only mode octet is served: ask for binary')
})

t.test('atftp fetches with windows', needs('atftp'), async (t) => {
  const { server } = await open(t)
  const out = join(folder(t), 'got')
  for (const [blksize, windowsize] of [
    [1428, 16],
    [512, 64],
    [8192, 16],
  ]) {
    const options = ['--option', `blksize ${blksize}`, '--option', `windowsize ${windowsize}`]
    const { said } = await run('atftp', [
      ...options,
      '-g',
      '-r',
      'ipxe.efi',
      '-l',
      out,
      '127.0.0.1',
      String(server.port),
    ])
    t.ok(readFileSync(out).equals(megabyte), `${blksize} ${windowsize} ${said.slice(-300)}`)
    rmSync(out)
  }
})

t.test('busybox fetches', needs('busybox'), async (t) => {
  const { server } = await open(t)
  const out = join(folder(t), 'got')
  const { said } = await run('busybox', [
    'tftp',
    '-g',
    '-b',
    '1468',
    '-r',
    'ipxe.efi',
    '-l',
    out,
    '127.0.0.1',
    String(server.port),
  ])
  t.ok(readFileSync(out).equals(megabyte), said)
})

t.test('npm tftp fetches, with windows', async (t) => {
  const { server } = await open(t)
  const out = join(folder(t), 'got')
  const { createClient } = createRequire(import.meta.url)('tftp') as {
    createClient(options: object): { get(name: string, to: string, done: (error?: Error) => void): void }
  }
  for (const windowSize of [1, 4]) {
    const client = createClient({ host: '127.0.0.1', port: server.port, blockSize: 1468, windowSize })
    await new Promise<void>((resolve, reject) =>
      client.get('ipxe.efi', out, (error) => (error ? reject(error) : resolve())),
    )
    t.ok(readFileSync(out).equals(megabyte))
  }
})
