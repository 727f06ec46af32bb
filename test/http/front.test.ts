import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls, type SecureVersion, type TlsOptions } from 'node:tls'
import t, { type Test } from 'tap'
import type { HandshakeFault } from '../../src/boot/story.ts'
import { handshakeCauses } from '../../src/handshake/diagnosis.ts'
import { clientIds, knownClients } from '../../src/handshake/known-clients.ts'
import { type Front, openFront } from '../../src/http/front/front.ts'
import { type FrontLimits, frontLimits } from '../../src/http/front/limits.ts'
import { handshakeRecorder, keyTypesOf } from '../../src/http/front/record.ts'

const folder = mkdtempSync(join(tmpdir(), 'pawl-front-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

/** A key with a certificate for 127.0.0.1 that signs itself. */
function selfSigned(name: string, ...key: string[]): { key: string; cert: string; file: string } {
  const [keyFile, file] = [join(folder, `${name}.key`), join(folder, `${name}.crt`)]
  const names = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1,DNS:boot.example.test']
  const made = ['req', '-x509', ...key, '-nodes', '-days', '30', '-keyout', keyFile, '-out', file, ...names]
  execFileSync('openssl', made, { stdio: 'ignore' })
  return { key: readFileSync(keyFile, 'utf8'), cert: readFileSync(file, 'utf8'), file }
}

/** Who is served shakes hands within it on a slow machine, too. */
const soon = 1500

const rsa = selfSigned('rsa', '-newkey', 'rsa:2048')
const ecdsa = selfSigned('ecdsa', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256')
const other = selfSigned('other', '-newkey', 'rsa:2048')

interface Recorded {
  readonly cause: string
  readonly source: string | null
  // biome-ignore lint/suspicious/noExplicitAny: each cause has a detail of its own, which the test compares
  readonly detail: any
}

interface Listening {
  readonly server: Server
  readonly front: Front
  readonly port: number
  readonly recorded: Recorded[]
  /** Who asked, as a request sees it. */
  readonly asked: (string | undefined)[]
  /** The next one that is recorded. */
  next(): Promise<Recorded>
}

interface ListenOptions {
  readonly tls?: TlsOptions
  readonly proxies?: string[]
  readonly limits?: Partial<FrontLimits>
  readonly handshakeTimeout?: number
}

async function listen(t: Test, options: ListenOptions = {}): Promise<Listening> {
  const { tls = rsa, proxies = [], limits = {}, handshakeTimeout = 10_000 } = options
  const asked: (string | undefined)[] = []
  const recorded: Recorded[] = []
  let told = 0
  let wake = (): void => {}
  const story = {
    handshakeFailed: (facts: HandshakeFault) => {
      recorded.push(facts)
      wake()
    },
  }
  const settings = { key: tls.key, cert: tls.cert, minVersion: 'TLSv1.2' as const, dhparam: 'auto' as const }
  const server = createServer({ ...settings, ...tls, handshakeTimeout }, (asking, answer) => {
    asked.push(asking.socket.remoteAddress)
    answer.end('served')
  })
  const front = openFront(server, {
    proxies,
    limits: { ...frontLimits, maxHalfOpen: 1000, ...limits },
    onFault: handshakeRecorder(story, keyTypesOf({ ...tls })),
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    front.close()
    server.closeAllConnections()
    server.close()
  })
  const next = async (): Promise<Recorded> => {
    while (recorded.length <= told) await new Promise<void>((resolve) => (wake = resolve))
    told += 1
    return recorded[told - 1] as Recorded // it is there: the loop waited for it
  }
  return { server, front, port: (server.address() as AddressInfo).port, recorded, asked, next }
}

const clients = Object.fromEntries(knownClients().map((client) => [client.id, client])) as Record<
  (typeof clientIds)[number],
  ReturnType<typeof knownClients>[number]
>

function open(port: number): Socket {
  return connect(port, '127.0.0.1').on('error', () => {})
}

/** Its end, with or without an error. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()))
}

/** Says something and waits for the end. */
async function say(port: number, bytes: Buffer | string): Promise<void> {
  const socket = open(port)
  socket.resume().end(bytes)
  await closed(socket)
}

/** Says a hello, and hangs up when the server has answered, as a client that does not like the certificate. */
async function hangUp(port: number, bytes: Buffer): Promise<void> {
  const socket = open(port)
  socket.write(bytes)
  await once(socket, 'data')
  socket.destroy()
}

function run(command: string, ...args: string[]): Promise<void> {
  const child: ChildProcess = spawn(command, args, { stdio: ['pipe', 'ignore', 'ignore'] })
  child.stdin?.end()
  return once(child, 'close').then(() => {})
}

const openssl = (port: number, ...args: string[]): Promise<void> =>
  run('openssl', 's_client', '-connect', `127.0.0.1:${port}`, ...args)

/** A request over TLS, optionally behind something said before. */
async function ask(
  port: number,
  before: Buffer | string = '',
  maxVersion: SecureVersion = 'TLSv1.3',
): Promise<string> {
  const raw = open(port)
  await once(raw, 'connect')
  if (before.length > 0) raw.write(before)
  const socket = connectTls({ socket: raw, ca: rsa.cert, maxVersion, servername: 'boot.example.test' })
  socket.end('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return text
}

const weak = Buffer.from(clients['ipxe-2019'].bytes)
weak.set(Buffer.from('000500040009000a', 'hex'), weak.indexOf(Buffer.from('003c003d002f0035', 'hex')))

t.test(
  'a handshake that fails says what the client offered, who it likely is and what to change',
  async (t) => {
    const noRsaExchange = { ...rsa, ciphers: 'ECDHE-RSA-AES128-GCM-SHA256' }
    const table: [
      what: string,
      listener: ListenOptions,
      client: (port: number) => Promise<unknown>,
      detail: object,
    ][] = [
      [
        'only RSA key exchange, and it is off',
        { tls: noRsaExchange },
        (port) => say(port, clients['ipxe-2022'].bytes),
        {
          cause: 'rsa-key-exchange-off',
          code: 'ERR_SSL_NO_SHARED_CIPHER',
          reason: 'the client offers only RSA key exchange, and this server has it turned off',
          client: 'iPXE 1.20.1 and 1.21.1 (2019 to 2022)',
          match: 'same',
          origin: 'reconstructed',
          offered: {
            versions: ['TLS 1.2'],
            keyExchange: ['RSA'],
            suites: ['AES128-SHA256', 'AES256-SHA256', 'AES128-SHA', 'AES256-SHA'],
            serverName: '10.0.2.2',
            maxFragmentLength: 4096,
          },
        },
      ],
      [
        'the same by OpenSSL',
        { tls: noRsaExchange },
        (port) => openssl(port, '-tls1_2', '-cipher', 'AES128-SHA'),
        { cause: 'rsa-key-exchange-off' },
      ],
      [
        'no suite in common',
        { tls: noRsaExchange },
        (port) => openssl(port, '-tls1_2', '-cipher', 'DHE-RSA-AES128-SHA:AES128-SHA'),
        { cause: 'no-common-suite', offered: { keyExchange: ['DHE-RSA', 'RSA'] } },
      ],
      [
        'an RSA client, and an ECDSA certificate alone',
        { tls: ecdsa },
        (port) => say(port, clients['ipxe-2025'].bytes),
        {
          cause: 'certificate-type',
          client: 'iPXE 1.21.1+ (2025)',
          origin: 'captured',
          advice: /let the boot listener have an RSA certificate/,
        },
      ],
      [
        'an ECDSA client, and an RSA certificate alone',
        {},
        (port) => openssl(port, '-tls1_2', '-cipher', 'ECDHE-ECDSA-AES128-GCM-SHA256'),
        { cause: 'certificate-type', advice: /ECDSA certificate beside/ },
      ],
      [
        'broken suites only',
        {},
        (port) => say(port, weak),
        { cause: 'weak-suites', offered: { suites: ['RC4-SHA', 'RC4-MD5', 'DES-CBC-SHA', 'DES-CBC3-SHA'] } },
      ],
      [
        'TLS 1.1',
        {},
        (port) => openssl(port, '-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0'),
        { cause: 'old-version', offered: { versions: ['TLS 1.1'] } },
      ],
      [
        'TLS 1.0',
        {},
        (port) => openssl(port, '-tls1', '-cipher', 'DEFAULT@SECLEVEL=0'),
        { cause: 'old-version', offered: { versions: ['TLS 1.0'] } },
      ],
      [
        'TLS 1.3, and a server without it',
        { tls: { ...rsa, maxVersion: 'TLSv1.2' } },
        (port) => say(port, clients.agent.bytes),
        { cause: 'new-version', client: /^Pawl's own images/ },
      ],
      [
        'no curve in common',
        { tls: { ...rsa, ecdhCurve: 'P-384', ciphers: 'ECDHE-RSA-AES128-GCM-SHA256' } },
        (port) => openssl(port, '-tls1_2', '-curves', 'X448', '-cipher', 'ECDHE-RSA-AES128-GCM-SHA256'),
        { cause: 'no-common-group', offered: { groups: ['X448'] } },
      ],
      [
        'no signature in common',
        { tls: { ...ecdsa, minVersion: 'TLSv1.3' } },
        (port) => openssl(port, '-tls1_3', '-sigalgs', 'RSA-PSS+SHA256'),
        { cause: 'no-common-signature' },
      ],
      [
        'curl that does not know the root',
        {},
        (port) => run('curl', '-s', '--cacert', other.file, `https://127.0.0.1:${port}/`),
        {
          cause: 'untrusted-root',
          code: /ALERT_UNKNOWN_CA$/,
          client: 'curl with OpenSSL 3.0',
          match: 'same',
          advice: /ca\.crt/,
        },
      ],
      [
        'the same, TLS 1.2',
        {},
        (port) => run('curl', '-s', '--tls-max', '1.2', '--cacert', other.file, `https://127.0.0.1:${port}/`),
        { cause: 'untrusted-root' },
      ],
      [
        'our agents, with the root of another server',
        {},
        (port) => run('curl', '-s', '--tlsv1.3', '--cacert', other.file, `https://127.0.0.1:${port}/`),
        { cause: 'untrusted-root', client: /^Pawl's own images/ },
      ],
      [
        'a clock that is years ahead',
        {},
        (port) => openssl(port, '-CAfile', rsa.file, '-verify_return_error', '-attime', '4000000000'),
        { cause: 'certificate-expired', advice: /set the clock/ },
      ],
      [
        'a name that the certificate has not',
        {},
        (port) =>
          openssl(
            port,
            '-CAfile',
            rsa.file,
            '-verify_return_error',
            '-verify_hostname',
            'other.example.test',
          ),
        { cause: 'certificate-refused' },
      ],
      [
        'an iPXE that hangs up at the certificate',
        {},
        (port) => hangUp(port, clients['ipxe-2026'].bytes),
        {
          cause: 'hung-up',
          code: 'ECONNRESET',
          client: 'iPXE 2.0.0 (2026)',
          reason: /that is how it says that it does not trust it/,
          advice: /pawl ipxe trust/,
        },
      ],
      [
        'a UEFI that hangs up at the certificate',
        {},
        (port) => hangUp(port, clients['edk2-2025'].bytes),
        {
          cause: 'hung-up',
          client: /^UEFI/,
          reason: /^a UEFI firmware hung up/,
          advice: /TLS CA certificates/,
        },
      ],
      [
        'another client that hangs up there',
        {},
        (port) => hangUp(port, clients.wget.bytes),
        { cause: 'hung-up', reason: /^the client hung up when it had our certificate/ },
      ],
      [
        'plain HTTP',
        {},
        (port) => say(port, 'GET /v1/ipxe/snponly.efi HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'),
        { cause: 'plain-http', code: 'ERR_SSL_HTTP_REQUEST', advice: /write https/ },
      ],
      ['garbage', {}, (port) => say(port, Buffer.alloc(300, 0x80)), { cause: 'not-tls' }],
      [
        'another kind of TLS message',
        {},
        (port) => say(port, Buffer.from('160301000402000000', 'hex')),
        { cause: 'malformed' },
      ],
      [
        'a hello of 16 MB',
        {},
        (port) => say(port, Buffer.from('160301000401ffffff', 'hex')),
        { cause: 'malformed' },
      ],
      ['nothing', {}, (port) => say(port, ''), { cause: 'hung-up-early' }],
      [
        'half a hello',
        {},
        (port) => say(port, clients.curl.bytes.subarray(0, 99)),
        { cause: 'hung-up-early' },
      ],
      [
        'a PROXY line from nobody we know',
        {},
        (port) => say(port, 'PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n'),
        { cause: 'proxy-header-unexpected', advice: /proxyProtocolFrom/ },
      ],
      [
        'a PROXY header, version 2, from nobody we know',
        {},
        (port) => say(port, Buffer.from('0d0a0d0a000d0a515549540a2111000cc0000201c6336401dc0401bb', 'hex')),
        { cause: 'proxy-header-unexpected' },
      ],
      [
        'no PROXY header from a proxy',
        { proxies: ['127.0.0.0/8'] },
        (port) => say(port, clients.curl.bytes),
        { cause: 'proxy-header-missing', reason: /does not begin with a PROXY header/ },
      ],
      [
        'a wrong PROXY header from a proxy',
        { proxies: ['127.0.0.0/8'] },
        (port) => say(port, 'PROXY TCP4 nobody 192.0.2.2 1 2\r\n'),
        { cause: 'proxy-header-bad', reason: /its addresses are malformed/ },
      ],
      [
        'silence',
        { limits: { helloMilliseconds: soon, headerMilliseconds: soon } },
        (port) => closed(open(port)),
        { cause: 'timed-out-early' },
      ],
      [
        'silence of a proxy',
        { proxies: ['127.0.0.1/32'], limits: { headerMilliseconds: soon } },
        (port) => closed(open(port)),
        { cause: 'proxy-header-missing', reason: /did not come in time/ },
      ],
      [
        'a byte now and then',
        { limits: { helloMilliseconds: soon } },
        (port) => trickle(port, clients.curl.bytes),
        { cause: 'timed-out-early' },
      ],
      [
        'a hello, and then silence',
        { handshakeTimeout: soon },
        (port) => quiet(port, clients['edk2-2022'].bytes),
        { cause: 'timed-out', client: 'UEFI HTTPS Boot, EDK2 of 2020 to 2022' },
      ],
    ]
    const causes = new Set(['too-many', 'only-looked']) // in a test of their own, and in test/doctor/boot.test.ts
    for (const [what, options, client, detail] of table) {
      await t.test(what, async (t) => {
        const listening = await listen(t, options)
        await client(listening.port)
        const found = await listening.next()
        t.match(found.detail, detail)
        t.match(found, { source: '127.0.0.1', cause: found.detail.cause })
        t.equal(listening.front.halfOpen(), 0, 'nothing is left')
        t.equal(await servedAnyone(listening, options), true, 'and others are served')
        t.equal(listening.recorded.length, 1, 'it is told once')
        causes.add(found.cause)
      })
    }
    const untried = Object.keys(handshakeCauses).filter((cause) => !causes.has(cause))
    t.same(untried, ['client-refused', 'failed'], 'all others were seen with a real client')
  },
)

async function servedAnyone({ port, asked }: Listening, { proxies, tls }: ListenOptions): Promise<boolean> {
  if (tls !== undefined) return true // its own table row says whom it does not serve
  await ask(port, proxies === undefined ? '' : 'PROXY TCP4 192.0.2.9 192.0.2.2 1 2\r\n')
  return asked.length === 1
}

/** A byte every 20 ms, until it is cut off. */
async function trickle(port: number, bytes: Buffer): Promise<void> {
  const socket = open(port)
  let at = 0
  const timer = setInterval(() => socket.write(bytes.subarray(at, ++at)), 20)
  await closed(socket)
  clearInterval(timer)
}

async function quiet(port: number, bytes: Buffer): Promise<void> {
  const socket = open(port)
  socket.resume().write(bytes)
  await closed(socket)
}

const v2 = (rest: string): Buffer => Buffer.from(`0d0a0d0a000d0a515549540a${rest.replaceAll(' ', '')}`, 'hex')

t.test('behind a proxy the client is who the proxy says, for requests and for failures', async (t) => {
  const { port, asked, next } = await listen(t, { proxies: ['127.0.0.1/32'] })
  for (const [header, address] of [
    ['PROXY TCP4 192.0.2.77 198.51.100.1 1000 443\r\n', '192.0.2.77'],
    ['PROXY TCP6 2001:db8::77 ::1 1000 443\r\n', '2001:db8::77'],
    [v2('21 11 000c c000024e c6336401 03e8 01bb'), '192.0.2.78'],
    [v2('20 00 0000'), '127.0.0.1'],
    ['PROXY UNKNOWN\r\n', '127.0.0.1'],
  ] as const) {
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      t.match(await ask(port, header, version), /served$/)
      t.equal(asked.pop(), address, `${String(header).trim().slice(0, 30)} ${version}`)
    }
  }
  await say(port, Buffer.concat([Buffer.from('PROXY TCP4 192.0.2.79 198.51.100.1 1 2\r\n'), weak]))
  t.match(await next(), { source: '192.0.2.79', detail: { cause: 'weak-suites', via: '127.0.0.1' } })
})

t.test('a second PROXY header behind the first, which a client may send, is no TLS', async (t) => {
  const { port, asked, next } = await listen(t, { proxies: ['127.0.0.1/32'] })
  const line = (address: string): string => `PROXY TCP4 ${address} 198.51.100.1 1 2\r\n`
  await say(port, line('192.0.2.1') + line('192.0.2.2'))
  t.match(await next(), { source: '192.0.2.1', detail: { cause: 'proxy-header-unexpected' } })
  t.notMatch(await ask(port, line('192.0.2.1') + line('192.0.2.2')).catch(() => ''), /served/)
  t.same(asked, [])
})

t.test('a proxy that looks whether we are there is on no record', async (t) => {
  const { port, recorded, front } = await listen(t, { proxies: ['127.0.0.1/32'] })
  for (const check of ['', v2('20 00 0000'), 'PROXY UNKNOWN\r\n']) await say(port, check)
  t.equal(front.halfOpen(), 0)
  t.same(recorded, [])
})

t.test('a hello may come in any pieces', async (t) => {
  const { port, recorded, front } = await listen(t, { proxies: ['127.0.0.1/32'] })
  const { bytes } = clients['ipxe-2026']
  const header = v2('21 11 000c c000024e c6336401 03e8 01bb')
  const split = Buffer.concat([header, ...inRecordsOf(40, bytes.subarray(5))])
  for (const [what, pieces] of [
    ['one byte at a time', [...Buffer.concat([header, bytes])].map((byte) => Buffer.from([byte]))],
    ['in one with the PROXY header', [Buffer.concat([header, bytes])]],
    ['in records of 40 bytes', [split]],
    ['in records of 40 bytes, one byte at a time', [...split].map((byte) => Buffer.from([byte]))],
  ] as const) {
    const socket = open(port).setNoDelay()
    for (const piece of pieces) await new Promise((sent) => socket.write(piece, sent))
    const [answer] = (await once(socket, 'data')) as [Buffer]
    t.equal(answer.subarray(0, 3).toString('hex'), '160303', `${what}: a ServerHello`)
    t.equal(answer[5], 2)
    socket.destroy()
  }
  while (recorded.length < 4) await new Promise((resolve) => setImmediate(resolve))
  t.same(
    new Set(recorded.map(({ detail }) => `${detail.cause} ${detail.client}`)),
    new Set(['hung-up iPXE 2.0.0 (2026)']),
  )
  t.equal(front.halfOpen(), 0)
})

function inRecordsOf(size: number, message: Buffer): Buffer[] {
  const records: Buffer[] = []
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size)
    records.push(Buffer.from([22, 3, 1, 0, part.length]), part)
  }
  return records
}

t.test('every known client gets an answer', async (t) => {
  const both = { key: [rsa.key, ecdsa.key], cert: [rsa.cert, ecdsa.cert] }
  const { port } = await listen(t, { tls: both })
  for (const id of clientIds) {
    const socket = open(port)
    socket.write(clients[id].bytes)
    const [answer] = (await once(socket, 'data')) as [Buffer]
    t.same([answer[0], answer[5]], [22, 2], `${id}: a ServerHello`)
    socket.destroy()
  }
})

t.test('more handshakes than the limit cut off the oldest, before TLS and in it', async (t) => {
  const { port, front, next } = await listen(t, { limits: { maxHalfOpen: 20 } })
  const silent = Array.from({ length: 10 }, () => open(port))
  const begun: Socket[] = []
  for (let i = 0; i < 10; i += 1) {
    const socket = open(port)
    socket.write(clients['ipxe-2025'].bytes)
    await once(socket, 'data')
    begun.push(socket)
  }
  t.equal(front.halfOpen(), 20)
  t.match(await ask(port), /served$/, 'one that is in time is served')
  t.match(await next(), { detail: { cause: 'too-many' } })
  for (const socket of silent) {
    open(port)
    if (!socket.destroyed) await closed(socket.resume())
  }
  for (let i = 0; i < 9; i += 1) t.match(await next(), { detail: { cause: 'too-many' } })
  const more = Array.from({ length: 5 }, () => open(port))
  for (const socket of more) await once(socket, 'connect')
  t.ok(front.halfOpen() <= 20, `${front.halfOpen()} at once`)
})

t.test('memory for unfinished hellos is bounded: beyond it TLS gets the bytes as they are', async (t) => {
  const { port, next, front } = await listen(t, { limits: { maxHeldBytes: 4096 }, handshakeTimeout: soon })
  const { bytes } = clients.node
  const sockets = Array.from({ length: 8 }, () => open(port))
  for (const socket of sockets) {
    await once(socket, 'connect')
    socket.resume().write(bytes.subarray(0, 1000))
  }
  // Those that TLS has end by its limit, the others go on when the rest comes.
  for (const socket of sockets.slice(0, 2)) socket.write(bytes.subarray(1000))
  t.match(await next(), { detail: { cause: 'timed-out' } })
  for (const socket of sockets) socket.destroy()
  while (front.halfOpen() > 0) await new Promise((resolve) => setTimeout(resolve, 5))
  t.match(await ask(port), /served$/)
})

t.test('closing cuts off who has said nothing', async (t) => {
  const { port, front, server, recorded } = await listen(t)
  const socket = open(port)
  await once(socket, 'connect')
  while (front.halfOpen() === 0) await new Promise((resolve) => setImmediate(resolve))
  const closed = once(server, 'close')
  front.close()
  server.close()
  await closed
  t.same(recorded, [])
})

const many = 10_000
const tooFew = fileLimit() < many + 500 ? 'too few open files allowed (ulimit -n)' : false
t.test(
  '10,000 connections that send nothing are gone when their time is over',
  { skip: tooFew },
  async (t) => {
    const { port, front, recorded } = await listen(t, {
      limits: { maxHalfOpen: 20_000, maxOfAddress: 20_000, helloMilliseconds: 10_000 },
    })
    // A process of its own: each has as many files as it may open.
    // From an address of its own: the ports of 127.0.0.1 are for others.
    const to = JSON.stringify({ port, host: '127.0.0.1', localAddress: '127.0.7.1' })
    const script = `let open = ${many}
    const to = ${to}
    const next = (left) => left > 0 && require('net').connect(to, () => next(left - 20))
      .on('close', () => { open -= 1 || process.exit() }).resume()
    for (let i = 1; i <= 20; i += 1) next(${many} - 20 + i)`
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'ignore', 'inherit'] })
    const ended = once(child, 'close')
    while (front.halfOpen() < 1000) await new Promise((resolve) => setTimeout(resolve, 10))
    t.match(await ask(port), /served$/, 'one among them is served')
    await ended
    t.equal(front.halfOpen(), 0)
    t.equal(recorded.length, many)
    t.same(new Set(recorded.map(({ cause }) => cause)), new Set(['timed-out-early']))
  },
)

function fileLimit(): number {
  return Number(execFileSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).replace('unlimited', '1000000'))
}
