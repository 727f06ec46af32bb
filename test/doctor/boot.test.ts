import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { createServer, type TlsOptions } from 'node:tls'
import t, { type Test } from 'tap'
import { runCli } from '../../src/cli/main.ts'
import { type BootExamined, examineBoot } from '../../src/doctor/boot.ts'
import { examine } from '../../src/doctor/examine.ts'
import { findHello, parseClientHello } from '../../src/handshake/client-hello.ts'
import { helloFor } from '../../src/handshake/for-server.ts'
import { clientIds, knownClients, likelyClient } from '../../src/handshake/known-clients.ts'
import { readServerFlight } from '../../src/handshake/server-flight.ts'
import { configOf, install, serve, withStorage } from '../backup/helpers.ts'

const folder = mkdtempSync(join(tmpdir(), 'pawl-doctor-boot-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

interface Made {
  readonly key: string
  readonly cert: string
}

const rsaKey = ['-newkey', 'rsa:2048']
const ecKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']

/** A certificate for 127.0.0.1, signed by another one or by itself. */
function make(name: string, key: readonly string[], issuer?: string): Made {
  const file = (kind: string, of = name): string => join(folder, `${of}.${kind}`)
  const by = issuer === undefined ? [] : ['-CA', file('crt', issuer), '-CAkey', file('key', issuer)]
  const names = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1']
  const ca = ['-addext', 'basicConstraints=critical,CA:TRUE']
  const made = ['req', '-x509', ...key, '-nodes', '-days', '30', '-keyout', file('key'), '-out', file('crt')]
  execFileSync('openssl', [...made, ...names, ...ca, ...by], { stdio: 'ignore' })
  return { key: readFileSync(file('key'), 'utf8'), cert: readFileSync(file('crt'), 'utf8') }
}

const root = make('root', rsaKey)
const rsa = make('rsa', rsaKey, 'root')
const ecdsa = make('ecdsa', ecKey, 'root')
const ecRoot = make('ec-root', ecKey)
const byEcdsa = make('by-ecdsa', rsaKey, 'ec-root')
const middle = make('middle', rsaKey, 'root')
const low = make('low', rsaKey, 'middle')
const deep = make('deep', rsaKey, 'low')

const both: TlsOptions = { key: [rsa.key, ecdsa.key], cert: [rsa.cert + root.cert, ecdsa.cert + root.cert] }

async function listening(t: Test, server: Server): Promise<string> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => sockets.add(socket.on('error', () => {})))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function tlsServer(options: TlsOptions): Server {
  return createServer({ minVersion: 'TLSv1.2', dhparam: 'auto', ...options } as TlsOptions)
    .on('tlsClientError', () => {})
    .on('secureConnection', (socket) => socket.on('error', () => {}))
}

const look = (url: string, need: readonly string[] = [], now = new Date()): Promise<BootExamined> =>
  examineBoot({ url, need, now, proxyProtocol: false })

const cannot = ({ clients }: BootExamined): string[] =>
  clients.filter(({ canBoot }) => !canBoot).map(({ id }) => id)
const [ipxes, firmware, tools] = [clientIds.slice(0, 6), clientIds.slice(6, 9), clientIds.slice(9)]
/** Clients that take no ECDSA certificate. */
const rsaOnly = [...ipxes.slice(0, 5), ...firmware.slice(0, 2)]

t.test('who cannot boot from which listener, and what to change', async (t) => {
  const table: [what: string, options: TlsOptions, cannotBoot: string[], words: RegExp | undefined][] = [
    ['RSA and ECDSA side by side', both, [], undefined],
    ['RSA alone', { key: rsa.key, cert: rsa.cert + root.cert }, [], undefined],
    [
      'ECDSA alone',
      { key: ecdsa.key, cert: ecdsa.cert + root.cert },
      rsaOnly,
      /have (an RSA certificate|one),? and leave/,
    ],
    [
      'an RSA certificate signed with ECDSA',
      { key: byEcdsa.key, cert: byEcdsa.cert + ecRoot.cert },
      rsaOnly,
      /signed with ECDSA, which it cannot check/,
    ],
    [
      'RSA key exchange off',
      { ...both, ciphers: 'ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256' },
      ['ipxe-2019', 'ipxe-2022'],
      /RSA key exchange alone/,
    ],
    [
      'ECDHE alone',
      { ...both, ciphers: 'ECDHE-RSA-AES128-GCM-SHA256' },
      [...ipxes.slice(0, 3), ...firmware.slice(0, 2)],
      /leave (DHE and RSA key exchange|suites such as AES128-SHA) on/,
    ],
    ['TLS 1.3 alone', { ...both, minVersion: 'TLSv1.3' }, [...ipxes, ...firmware], /another version of TLS/],
    ['TLS 1.2 alone', { ...both, maxVersion: 'TLSv1.2' }, ['agent'], /another version of TLS/],
    [
      'asked for a client certificate',
      { ...both, requestCert: true, rejectUnauthorized: false, ca: root.cert },
      ipxes.slice(0, 4),
      /asked for a client certificate, and hangs up/,
    ],
  ]
  for (const [what, options, cannotBoot, words] of table) {
    const found = await look(await listening(t, tlsServer(options)))
    t.same(cannot(found), cannotBoot, what)
    t.equal(found.ok, true, 'nobody is needed')
    for (const { canBoot, change } of found.clients) {
      t.equal(change.length > 0, !canBoot)
      if (!canBoot && words !== undefined) t.match(change.join(), words)
    }
  }
})

t.test('what each client gets is told', async (t) => {
  const { clients } = await look(await listening(t, tlsServer(both)))
  t.same(
    clients.map(({ id }) => id),
    [...clientIds],
  )
  const told = Object.fromEntries(clients.map((one) => [one.id, one]))
  t.match(told['ipxe-2022'], {
    origin: 'reconstructed',
    version: 'TLS 1.2',
    keyExchange: 'RSA',
    certificate: 'RSA 2048',
    chainLength: 2,
    rootIncluded: true,
    fragmentLimitHonoured: true,
    asksCertificate: false,
    warnings: [],
  })
  t.match(told['edk2-2022'], {
    origin: 'captured',
    keyExchange: /^DHE-RSA \d+$/,
    fragmentLimitHonoured: null,
  })
  t.match(told['ipxe-2026'], { origin: 'captured', version: 'TLS 1.2', suite: /^ECDHE-/ })
  for (const id of tools) t.match(told[id], { version: 'TLS 1.3', certificate: null, chainLength: null }, id)
})

t.test('long chains, and chains without their root, are warned of for firmware only', async (t) => {
  const chain = deep.cert + low.cert + middle.cert
  const { clients } = await look(await listening(t, tlsServer({ key: deep.key, cert: chain + root.cert })))
  const warned = clients.filter(({ warnings }) => warnings.length > 0).map(({ id }) => id)
  t.same(warned, [...ipxes, ...firmware])
  t.match(clients[0]?.warnings, ['a chain of 4 certificates: up to 3 is usual'])
  const rootless = await look(await listening(t, tlsServer({ key: deep.key, cert: chain })))
  t.same(cannot(rootless), [])
  t.match(rootless.clients[0], { rootIncluded: false, warnings: [/root is not sent/] })
})

t.test('a certificate for another name, or for another time, is told', async (t) => {
  const url = await listening(t, tlsServer(both))
  const named = await look(url.replace('127.0.0.1', 'localhost'))
  t.match(named.clients[0], { canBoot: false, change: [/the certificate is not for localhost/] })
  const late = await look(url, [], new Date(Date.now() + 365 * 86_400_000))
  t.match(late.clients[0], { canBoot: false, change: [/is not valid now/] })
})

t.test('what is needed and cannot boot is a failure', async (t) => {
  const url = await listening(t, tlsServer({ key: ecdsa.key, cert: ecdsa.cert }))
  t.equal((await look(url, ['agent', 'ipxe-2026'])).ok, true)
  t.equal((await look(url, ['ipxe-2022'])).ok, false)
  t.equal((await look(url, ['all'])).ok, false)
  await t.rejects(look(url, ['ipxe-1999']), { code: 'usage', message: 'no client is called "ipxe-1999"' })
})

t.test('what is no boot listener is told, and never waited for long', async (t) => {
  const http = createTcpServer((socket) =>
    socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')),
  )
  const plain = await look(await listening(t, http))
  t.same(cannot(plain), [...clientIds])
  t.match(plain.clients[0], { outcome: 'no TLS', change: [/speaks no TLS/] })
  const closing = await look(
    await listening(
      t,
      createTcpServer((socket) => socket.destroy()),
    ),
  )
  t.match(closing.clients[0], { outcome: 'hung up', change: [/does it expect a PROXY header/] })
  const random = createTcpServer((socket) =>
    socket.once('data', () => socket.end(Buffer.from('16030300ff0200ffff', 'hex'))),
  )
  t.match((await look(await listening(t, random))).clients[0], { canBoot: false })
  await t.rejects(look('https://127.0.0.1:1'), { code: 'unreachable' })
  for (const url of ['http://127.0.0.1', 'https://x/y', 'nonsense', 'https://u@h'])
    await t.rejects(look(url), { code: 'usage' }, url)
  await t.rejects(
    examineBoot({ url: undefined, need: [], now: new Date(), proxyProtocol: false, dataDir: folder }),
    {
      code: 'usage',
      message: `no server has run on ${folder}`,
    },
  )
})

t.test('every client asks for the name of the listener it is replayed to', (t) => {
  const nameOf = (bytes: Buffer): string | undefined => {
    const found = findHello(bytes)
    const hello = found.state === 'hello' ? parseClientHello(found.message) : undefined
    if (hello === undefined) throw new Error('no hello')
    return `${hello.serverName} ${likelyClient(hello)?.match}`
  }
  for (const client of knownClients()) {
    const names = client.hello.extensions.includes(0)
    t.equal(
      nameOf(helloFor(client, 'pxe.example.net')),
      `${names ? 'pxe.example.net' : undefined} same`,
      client.id,
    )
    const literal = names && (client.kind === 'ipxe' || client.kind === 'firmware')
    t.equal(nameOf(helloFor(client, '2001:db8::1')), `${literal ? '2001:db8::1' : undefined} same`, client.id)
  }
  t.end()
})

t.test('no answer of a server makes the reader throw', (t) => {
  for (let size = 0; size < 300; size += 1) {
    const bytes = Buffer.from(Array.from({ length: size }, (_, i) => (i * 7919 + size * 31) & 255))
    const record = Buffer.concat([Buffer.from([22, 3, 3, size >> 8, size & 255]), bytes])
    for (const type of [2, 11, 12, 13, 14]) {
      const message = Buffer.concat([Buffer.from([type, 0, size >> 8, size & 255]), bytes])
      readServerFlight(
        Buffer.concat([Buffer.from([22, 3, 3, message.length >> 8, message.length & 255]), message]),
      )
    }
    readServerFlight(record)
    readServerFlight(bytes)
  }
  t.end()
})

async function run(...argv: string[]): Promise<{ exit: number; stdout: string; stderr: string }> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const io = {
    ...{ argv: ['doctor', 'boot', ...argv], env: {}, stdin, stdout, stderr },
    ...{ now: () => new Date(), isTTY: { stdout: false, stderr: false } },
  }
  const doctorBoot = (flags: Record<string, unknown>): Promise<BootExamined> => {
    const { url, need = [], data, proxyProtocol } = flags
    const dataDir = data === undefined ? undefined : String(data)
    return examineBoot({
      url: url as string | undefined,
      need: need as string[],
      now: new Date(),
      proxyProtocol: proxyProtocol === true,
      dataDir,
      config: dataDir === undefined ? undefined : configOf(dataDir),
    })
  }
  const exit = await runCli(io, { doctorBoot } as never) // no other command is run
  const text = (stream: PassThrough): string => String(stream.end().read() ?? '')
  return { exit, stdout: text(stdout), stderr: text(stderr) }
}

t.test('the command says it in a table, in JSON, and by its exit', async (t) => {
  const url = await listening(t, tlsServer({ key: ecdsa.key, cert: ecdsa.cert + root.cert }))
  const shown = await run('--url', url)
  t.equal(shown.exit, 0)
  t.match(shown.stdout, /^CLIENT +ORIGIN +GETS +KEYS +CERTIFICATE +CHAIN +LIMIT +BOOTS\n/)
  t.match(shown.stdout, /\nipxe-2022 +reconstructed +alert: handshake failure +- +- +- +- +no\n/)
  t.match(
    shown.stdout,
    /\nipxe-2026 +captured +TLS 1.2 ECDHE-ECDSA-\S+ +ECDHE-ECDSA \S+ +ECDSA P-256 +2, with root +kept +yes\n/,
  )
  t.match(shown.stdout, /\nagent +captured +TLS 1.3 \S+ +TLS 1.3 +not visible +- +- +yes\n/)
  t.match(shown.stdout, /\ncannot +ipxe-2022 .*have an RSA certificate/)
  t.match(shown.stdout, /\nreconstructed: built from what is published/)
  const needed = await run('--url', url, '--need', 'ipxe-2022', 'agent')
  t.equal(needed.exit, 1)
  t.match(needed.stdout, /\nipxe-2022 .* NO, needed\n/)
  t.match(needed.stderr, 'error: cannot boot: ipxe-2022\n')
  const json = await run('--url', url, '--json', '--need', 'all')
  t.equal(json.exit, 1)
  t.match(JSON.parse(json.stdout), {
    url,
    ok: false,
    clients: [{ id: 'ipxe-2019', canBoot: false, needed: true }],
  })
})

t.test(
  'on a running Pawl everyone can boot, behind a proxy too, and its record says who looked',
  async (t) => {
    for (const proxied of [false, true]) {
      const { dataDir, database } = await install(t)
      const settings = `publicUrl: https://127.0.0.1:8443\n${proxied ? 'proxyProtocolFrom: [127.0.0.1]\n' : ''}`
      writeFileSync(join(dataDir, 'pawl.yaml'), settings, { mode: 0o600 })
      const server = await serve(t, dataDir, database)
      const { exit, stdout, stderr } = await run('--data', dataDir, '--need', 'all')
      t.equal(exit, 0, stdout + stderr)
      t.notMatch(stdout, /cannot|warn/)
      const doctor = await examine({
        ...{
          dataDir,
          configOf: () => configOf(dataDir, { database }),
          now: new Date(),
          version: '0.2.0',
          full: false,
        },
        ...{ hostName: 'localhost', nodeVersion: '24.0.0', isAlive: (id: number) => id === process.pid },
        templatesFolder: join(import.meta.dirname, '../../ipxe-templates'),
      })
      t.match(
        doctor.findings.find(({ check }) => check === 'boot listener'),
        { level: 'ok' },
        'pawl doctor, too',
      )
      const { boot } = server.ready
      const outside = await run('--url', boot, '--need', 'all', ...(proxied ? ['--proxy-protocol'] : []))
      t.equal(outside.exit, 0, outside.stdout)
      await server.close()
      const causes = await withStorage(database, async ({ db }) =>
        (await db.selectFrom('events').select('detail').where('kind', '=', 'handshake-failed').execute()).map(
          ({ detail }) => JSON.parse(detail).cause,
        ),
      )
      // pawl doctor connects once to see whether anybody is there; of a proxy that leaves no event.
      t.same(new Set(causes), new Set(proxied ? ['only-looked'] : ['hung-up-early', 'only-looked']))
    }
  },
)
