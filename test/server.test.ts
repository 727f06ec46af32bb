import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type PeerCertificate } from 'node:tls'
import pino from 'pino'
import t, { type Test } from 'tap'
import { loadConfig } from '../src/config.ts'
import { addSeconds } from '../src/domain/clock.ts'
import { initPawl } from '../src/init.ts'
import { type RunningServer, startServer } from '../src/server.ts'
import { openStorage } from '../src/storage/database.ts'
import { findOperator } from '../src/storage/operators.ts'
import { pageOfPublishers } from '../src/storage/pages.ts'
import { openBrowser } from './helpers/browser.ts'
import { startHostileProvider } from './helpers/oidc.ts'
import { freePort } from './helpers/ports.ts'
import { send } from './helpers/robot.ts'

/** A while ago: TLS clients judge certificates by the real clock, so what is renewed must be good now. */
const began = addSeconds(new Date(), -300 * 86_400)

async function install(t: Test): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-server-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const dataDir = join(folder, 'data')
  await initPawl({ dataDir, database: join(dataDir, 'pawl.db'), publicUrl: undefined, names: [], now: began })
  return dataDir
}

function start(
  dataDir: string,
  clock: () => Date,
  flags: Record<string, string> = {},
): Promise<RunningServer> {
  const all = { data: dataDir, bootListen: '127.0.0.1:0', operatorListen: '127.0.0.1:0', ...flags }
  return startServer({
    config: loadConfig({ flags: all, env: {}, fileName: 'none' }),
    clock,
    log: pino({ level: 'silent' }),
    hostName: 'boot-server',
    processId: 1,
    templatesFolder: join(import.meta.dirname, '../ipxe-templates'),
  })
}

const portOf = (url: string): number => Number(new URL(url).port)

async function certificateAt(port: number): Promise<PeerCertificate> {
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  const certificate = socket.getPeerCertificate()
  socket.destroy()
  return certificate
}

t.test('init run twice changes nothing, and a token whose hash was not stored yet is stored', async (t) => {
  const dataDir = await install(t)
  const token = readFileSync(join(dataDir, 'admin.token'), 'utf8')
  const database = join(dataDir, 'pawl.db')
  const again = await initPawl({ dataDir, database, publicUrl: undefined, names: [], now: began })
  t.same(again.created, [])
  const publisher = new X509Certificate(readFileSync(join(dataDir, 'publisher.crt')))
  t.equal(publisher.subject, 'CN=Pawl publisher local')
  t.equal(statSync(join(dataDir, 'publisher.key')).mode & 0o777, 0o600)
  t.equal(readFileSync(join(dataDir, 'admin.token'), 'utf8'), token)
  for (const suffix of ['', '-wal', '-shm']) rmSync(database + suffix, { force: true })
  await initPawl({ dataDir, database, publicUrl: undefined, names: [], now: began })
  const storage = await openStorage(database)
  t.match(
    await findOperator(storage.db, token.slice(0, 12)),
    { role: 'admin' },
    'killed between file and database, the next run goes on',
  )
  t.match((await pageOfPublishers(storage.db, { limit: 10 })).rows, [
    { name: 'local', created_by: 'operator:init' },
  ])
  await storage.close()
})

t.test(
  'init adds the publisher that an older folder lacks, and makes no key where one was moved away',
  async (t) => {
    const dataDir = await install(t)
    const database = join(dataDir, 'pawl.db')
    const init = () => initPawl({ dataDir, database, publicUrl: undefined, names: [], now: began })
    rmSync(join(dataDir, 'publisher.key'))
    t.same((await init()).created, [], 'the key is where images are built')
    rmSync(join(dataDir, 'publisher.crt'))
    t.same((await init()).created, ['publisher.key', 'publisher.crt'])
    rmSync(join(dataDir, 'publisher.crt'))
    t.same((await init()).created, ['publisher.crt'], 'killed between key and certificate')
    const storage = await openStorage(database)
    const names = (await pageOfPublishers(storage.db, { limit: 10 })).rows.map(({ name }) =>
      name.replace(/-[0-9a-f]{8}$/, '-…'),
    )
    t.same(names, ['local', 'local-…', 'local-…'])
    await storage.close()
  },
)

t.test('refuses to start with what it cannot use, and names it', async (t) => {
  const dataDir = await install(t)
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => void taken.close())
  const { port } = taken.address() as { port: number }
  await t.rejects(
    start(dataDir, () => began, { bootListen: `127.0.0.1:${port}` }),
    { code: 'usage', message: /cannot listen on 127\.0\.0\.1 port \d+ \(EADDRINUSE\)/ },
  )
  writeFileSync(join(dataDir, 'pki', 'settings.key'), 'x')
  await t.rejects(
    start(dataDir, () => began),
    { code: 'key-unreadable', message: /settings\.key/ },
  )
  await t.rejects(
    start(join(dataDir, 'none'), () => began),
    { message: /none/ },
  )
})

t.test('listens, tells where, and stops', async (t) => {
  const dataDir = await install(t)
  const server = await start(dataDir, () => began)
  t.match(server.ready, {
    event: 'ready',
    boot: /^https:\/\/127\.0\.0\.1:\d+$/,
    operator: /^https:/,
    ca: join(dataDir, 'ca.crt'),
  })
  t.equal(server.ready.publicUrl, `https://boot-server:${portOf(server.ready.boot)}`)
  t.match(JSON.parse(readFileSync(join(dataDir, 'server.json'), 'utf8')), { operator: server.ready.operator })
  const ca = readFileSync(server.ready.ca, 'utf8')
  t.match(await send({ port: portOf(server.ready.boot), ca }, 'GET', '/_ah/health'), {
    status: 200,
    text: 'ok',
  })
  await server.close()
  await t.rejects(send({ port: portOf(server.ready.boot), ca }, 'GET', '/_ah/health'))
  t.notOk(existsSync(join(dataDir, 'pawl.db-wal')), 'the database was closed')
})

t.test('certificates are renewed before they end, without a restart', async (t) => {
  const dataDir = await install(t)
  let now = began
  const server = await start(dataDir, () => now)
  t.teardown(() => server.close())
  const ports = [portOf(server.ready.boot), portOf(server.ready.operator)]
  const serials = async (): Promise<string[]> =>
    Promise.all(ports.map(async (port) => (await certificateAt(port)).serialNumber))
  const first = await serials()
  now = addSeconds(began, 86_400)
  await server.maintain()
  t.same(await serials(), first, 'after a day they are the same')
  now = addSeconds(began, 300 * 86_400)
  await server.maintain()
  const second = await serials()
  t.not(second[0], first[0], 'the boot listener has a new one')
  t.not(second[1], first[1], 'the operator listener has a new one')
  const ca = readFileSync(server.ready.ca, 'utf8')
  t.match(
    await send({ port: ports[0] ?? 0, ca }, 'GET', '/_ah/health'),
    { text: 'ok' },
    'and the same root vouches for it',
  )
})

t.test('hostile connections are cut, recorded, and others are served', async (t) => {
  const dataDir = await install(t)
  const port = await freePort()
  const server = await start(dataDir, () => new Date(), {
    bootListen: `127.0.0.1:${port}`,
    requestTimeoutSeconds: '1',
  })
  t.teardown(() => server.close())
  const ca = readFileSync(server.ready.ca, 'utf8')
  const talk = async (text: string, tries = 5): Promise<string> => {
    const socket = connect({ host: '127.0.0.1', port, ca })
    await once(socket, 'secureConnect')
    socket.write(text)
    let answer = ''
    socket.on('data', (data) => {
      answer += data.toString('latin1')
    })
    // Who is cut off with bytes on the way is reset, and TCP may take the answer along: then it is asked again.
    socket.on('error', () => undefined)
    await new Promise((resolve) => socket.once('close', resolve))
    return answer === '' && tries > 1 ? talk(text, tries - 1) : (answer.split('\r\n')[0] ?? '')
  }
  const host = 'Host: x\r\n'
  const results = await Promise.all([
    talk(`GET / HTTP/1.1\r\n${host}X: `),
    talk(`POST /v1/boot/n/report HTTP/1.1\r\n${host}Content-Length: 100\r\n\r\nmessage=`),
    talk(`GET / HTTP/1.1\r\n${host}X: ${'a'.repeat(20_000)}\r\n\r\n`),
    talk(`GET / HTTP/1.1\r\n${host}${'A: b\r\n'.repeat(5000)}\r\n`),
    talk('nonsense\r\n\r\n'),
    talk(`GET /v1/boot/\u0000/stage1.ipxe HTTP/1.1\r\n${host}\r\n`),
    send({ port, ca }, 'GET', '/_ah/health').then((answer) => answer.text),
  ])
  t.match(results[0], /^HTTP\/1\.1 408/, 'slow headers')
  t.match(results[1], /^HTTP\/1\.1 408/, 'a slow body')
  t.match(results[2], /^HTTP\/1\.1 431/, 'a long header')
  t.match(results[3], /^HTTP\/1\.1 431/, 'many headers')
  t.match(results[4], /^HTTP\/1\.1 400/, 'no HTTP')
  t.match(results[5], /^HTTP\/1\.1 400/, 'a control character in the path')
  t.equal(results[6], 'ok', 'and others are served')

  const old = connect({
    host: '127.0.0.1',
    port,
    rejectUnauthorized: false,
    maxVersion: 'TLSv1.1',
    minVersion: 'TLSv1.1',
    ciphers: 'DEFAULT@SECLEVEL=0',
  })
  await once(old, 'error')
  const distrusting = connect({ host: '127.0.0.1', port })
  await once(distrusting, 'error')
  await server.maintain()
  const token = readFileSync(join(dataDir, 'admin.token'), 'utf8').trim()
  const operator = { port: portOf(server.ready.operator), ca }
  const events = async (): Promise<{ detail: { reason: string } }[]> =>
    JSON.parse(
      (
        await send(operator, 'GET', '/api/v1/events?kind=handshake-failed', {
          authorization: `Bearer ${token}`,
        })
      ).text,
    ).items
  t.match(await events(), [{ detail: { reason: 'the client speaks no TLS version from 1.2 on' } }])
})

t.test(
  'an older data folder gets its CA for clients when the server starts; one that lost a half is refused',
  async (t) => {
    const dataDir = await install(t)
    const [key, certificate] = ['clients.key', 'clients.crt'].map((name) => join(dataDir, 'pki', name)) as [
      string,
      string,
    ]
    for (const file of [key, certificate]) rmSync(file)
    await (await start(dataDir, () => began)).close()
    const made = readFileSync(certificate, 'utf8')
    await (await start(dataDir, () => began)).close()
    t.equal(readFileSync(certificate, 'utf8'), made, 'and keeps it')
    rmSync(certificate)
    await (await start(dataDir, () => began)).close()
    t.not(readFileSync(certificate, 'utf8'), made, 'killed between key and certificate, it goes on')
    rmSync(key)
    await t.rejects(
      start(dataDir, () => began),
      { code: 'key-unreadable', message: /clients\.key is not there/ },
    )
  },
)

t.test(
  'the settings name the provider: browsers are sent there, and back to a name of the certificate',
  async (t) => {
    const dataDir = await install(t)
    const issuer = await startHostileProvider(t, {})
    const secret = join(dataDir, 'oidc-secret')
    writeFileSync(secret, 'hunter2\n', { mode: 0o644 })
    const flags = {
      operatorUrl: 'https://pawl.example.net:8444',
      oidcIssuer: issuer,
      oidcClientId: 'pawl-site',
      oidcClientSecretFile: secret,
      oidcRoles: 'ops=operator',
    }
    await t.rejects(
      start(dataDir, () => new Date(), flags),
      { code: 'key-unreadable', message: /oidc-secret has mode 0644/ },
    )
    chmodSync(secret, 0o600)
    const server = await start(dataDir, () => new Date(), flags)
    t.teardown(() => server.close())
    const { subjectaltname } = await certificateAt(portOf(server.ready.operator))
    t.match(subjectaltname, /DNS:pawl\.example\.net/)
    const browser = openBrowser(readFileSync(server.ready.ca, 'utf8'))
    const sent = await browser.ask(`${server.ready.operator}/auth/login`)
    const to = new URL(String(sent.headers.location))
    t.equal(`${to.origin}${to.pathname}`, `${issuer}/authorize`)
    t.match(Object.fromEntries(to.searchParams), {
      client_id: 'pawl-site',
      redirect_uri: 'https://pawl.example.net:8444/auth/callback',
      response_type: 'code',
      scope: 'openid profile email',
      code_challenge_method: 'S256',
      code_challenge: /^[\w-]{43}$/,
      state: /^[\w-]{43}$/,
      nonce: /^[\w-]{43}$/,
    })
    t.match(sent.headers['set-cookie'], [
      /^__Host-pawl-sign-in=sealed:[\w-]+; Path=\/; Secure; HttpOnly; SameSite=Lax; Max-Age=600$/,
    ])
    const foreign = await browser.ask(`${server.ready.operator}/auth/login`)
    t.not(foreign.headers.location, sent.headers.location, 'each time anew')
  },
)

t.test('a fresh installation lets nobody in but the holder of the admin token', async (t) => {
  const dataDir = await install(t)
  const server = await start(dataDir, () => new Date())
  t.teardown(() => server.close())
  const token = readFileSync(join(dataDir, 'admin.token'), 'utf8').trim()
  const place = { port: portOf(server.ready.operator), ca: readFileSync(server.ready.ca, 'utf8') }
  const ask = (headers: Record<string, string>) => send(place, 'GET', '/api/v1/nodes', headers)
  const basic = (pair: string): string => `Basic ${Buffer.from(pair).toString('base64')}`
  const tries: Record<string, string>[] = [
    {},
    ...['admin:admin', 'admin:', 'root:root', 'pawl:pawl', 'admin:pawl'].map((pair) => ({
      authorization: basic(pair),
    })),
    ...['admin', 'pawl', 'A'.repeat(44), token.slice(0, 43)].map((text) => ({
      authorization: `Bearer ${text}`,
    })),
    { cookie: `__Host-pawl=${token}` },
    { 'x-forwarded-user': 'admin', 'x-remote-user': 'admin' },
  ]
  for (const headers of tries) t.equal((await ask(headers)).status, 401, JSON.stringify(headers))
  t.equal((await ask({ authorization: `Bearer ${token}` })).status, 200)
  t.match(await send(place, 'GET', '/auth/login'), { status: 404, text: /no provider is set up/ })
  const storage = await openStorage(join(dataDir, 'pawl.db'))
  t.teardown(() => storage.close())
  const [operators, people, certificates] = await Promise.all([
    storage.db.selectFrom('operators').selectAll().execute(),
    storage.db.selectFrom('people').selectAll().execute(),
    storage.db.selectFrom('operator_certificates').selectAll().execute(),
  ])
  t.match([operators, people, certificates], [[{ id: token.slice(0, 12), name: 'admin' }], [], []])
})
