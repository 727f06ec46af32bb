import { createHash } from 'node:crypto'
import { rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { Agent, type RequestOptions, request } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import type { FastifyInstance } from 'fastify'
import pino from 'pino'
import t, { type Test } from 'tap'
import { openStory } from '../../src/fleet/open-story.ts'
import { buildBootListener } from '../../src/http/boot-listener.ts'
import { openArtifactStore } from '../../src/images/artifacts.ts'
import { openArtifactCache } from '../../src/images/cache.ts'
import { addIpxe, type IpxeEntry } from '../../src/ipxe/folder.ts'
import { type ServedBinaries, type ServedOptions, serveBinaries } from '../../src/ipxe/served.ts'
import { createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { loadTls } from '../../src/pki/tls.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { until } from '../helpers/until.ts'
import { openAt, servedTemplates, worldBegins } from '../helpers/world.ts'

/** iPXE by HTTPS, as strict firmware asks for it. No database is read: one kind is enough. */
const shared = t.testdir({ pki: { pki: {} } })
const pki = join(shared, 'pki')
await createAuthority(pki, worldBegins)
const authority = openAuthority(pki)
const tls = (await loadTls(authority, { kind: 'boot', names: ['127.0.0.1'], now: worldBegins })).options()

type Fault = Parameters<ServedOptions['onFault']>[0]

interface Site {
  readonly dataDir: string
  readonly app: FastifyInstance
  readonly port: number
  readonly secret: string
  readonly binaries: ServedBinaries
  readonly faults: Fault[]
  readonly lines: string[]
}

async function openSite(t: Test, options: Partial<ServedOptions> = {}): Promise<Site> {
  const dataDir = t.testdir()
  const world = await openAt(t, join(dataDir, 'pawl.db'), { templates: servedTemplates() })
  const secret = await storeDemoFleet(world)
  const faults: Fault[] = []
  const lines: string[] = []
  const binaries = serveBinaries(dataDir, { onFault: (fault) => faults.push(fault), ...options })
  const app = buildBootListener(openStory(world.context), {
    tls,
    log: pino({}, { write: (line: string) => void lines.push(line) }),
    limits: { maxBodyBytes: 65_536, requestTimeoutSeconds: 15, idleTimeoutSeconds: 15, maxConnections: 100 },
    trustedProxies: [],
    artifacts: openArtifactCache(await openArtifactStore(join(dataDir, 'artifacts'))),
    ipxe: binaries,
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(async () => {
    app.server.closeAllConnections()
    await app.close()
  })
  const { port } = app.server.address() as AddressInfo
  return { dataDir, app, port, secret, binaries, faults, lines }
}

/** A binary; nothing here looks into it. */
function add(
  { dataDir }: Site,
  name: string,
  bytes: Buffer,
  more: Pick<Partial<IpxeEntry>, 'platform'> = {},
): void {
  const entry: Omit<IpxeEntry, 'size' | 'sha256'> = {
    name,
    platform: 'efi',
    arch: 'x86_64',
    version: '2.0.0',
    features: ['https'],
    trust: { kind: 'public' },
    source: 'a test',
    addedAt: '2026-11-21T06:00:00.000Z',
    ...more,
  }
  addIpxe(dataDir, entry, bytes)
}

interface Answer {
  readonly status: number | undefined
  /** Name and value in the order they came, names as they were written. */
  readonly raw: readonly string[]
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
  readonly socket: Socket
}

function ask(site: Site, path: string, options: RequestOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const to = { host: '127.0.0.1', port: site.port, ca: authority.rootCertificate, path, ...options }
    const sent = request(to, async (answer) => {
      resolve({
        status: answer.statusCode,
        raw: answer.rawHeaders,
        headers: answer.headers as Record<string, string>,
        body: await buffer(answer),
        socket: answer.socket,
      })
    })
    sent.on('error', reject)
    sent.end()
  })
}

const binary = Buffer.concat([Buffer.from('MZ'), Buffer.alloc(300_000, 7)])
const digest = createHash('sha256').update(binary).digest('hex')

t.test(
  'HEAD then GET on one connection, as EDK2 asks: type, length, and nothing it stumbles over',
  async (t) => {
    const site = await openSite(t)
    add(site, 'ipxe.efi', binary)
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    t.teardown(() => agent.destroy())
    // What OVMF sends.
    const headers = { 'User-Agent': 'UefiHttpBoot/1.0', Accept: '*/*' }
    const head = await ask(site, '/v1/ipxe/ipxe.efi', { method: 'HEAD', agent, headers })
    const get = await ask(site, '/v1/ipxe/ipxe.efi', { agent, headers })
    t.equal(get.socket, head.socket, 'the connection is kept')
    for (const answer of [head, get]) {
      t.equal(answer.status, 200)
      t.equal(answer.headers['content-type'], 'application/efi', 'to the letter: no charset')
      t.equal(answer.headers['content-length'], '300002')
      t.equal(answer.headers['transfer-encoding'], undefined)
      t.equal(answer.headers.location, undefined)
      t.equal(answer.headers.connection, 'keep-alive')
      t.notOk(
        answer.raw.some((value) => value === ''),
        'no header is empty',
      )
    }
    t.equal(head.body.length, 0)
    t.ok(get.body.equals(binary))
  },
)

t.test('parts, and copies that are still good', async (t) => {
  const site = await openSite(t)
  add(site, 'ipxe.efi', binary)
  const part = await ask(site, '/v1/ipxe/ipxe.efi', { headers: { range: 'bytes=299990-' } })
  t.match(part, {
    status: 206,
    headers: { 'content-length': '12', 'content-range': 'bytes 299990-300001/300002' },
  })
  t.equal(part.body.length, 12)
  t.match(await ask(site, '/v1/ipxe/ipxe.efi', { headers: { range: 'bytes=300002-' } }), { status: 416 })
  t.match(await ask(site, '/v1/ipxe/ipxe.efi', { headers: { 'if-none-match': `"sha256-${digest}"` } }), {
    status: 304,
  })
})

t.test('a BIOS binary is no EFI program', async (t) => {
  const site = await openSite(t)
  add(site, 'undionly.kpxe', binary, { platform: 'bios' })
  const { headers } = await ask(site, '/v1/ipxe/undionly.kpxe')
  t.equal(headers['content-type'], 'application/octet-stream')
})

t.test('the site script lies beside the binary; a node has a folder whose script names it', async (t) => {
  const site = await openSite(t)
  add(site, 'ipxe.efi', binary)
  const any = await ask(site, '/v1/ipxe/autoexec.ipxe')
  t.match(any, { status: 200, headers: { 'content-type': 'text/plain; charset=us-ascii' } })
  t.match(any.body.toString(), /^#!ipxe\n/)
  t.match(any.body.toString(), 'https://boot.example.test:8443/v1/boot/stage1.ipxe?')
  const head = await ask(site, '/v1/ipxe/autoexec.ipxe', { method: 'HEAD' })
  t.equal(head.headers['content-length'], String(any.body.length))
  t.equal(head.body.length, 0)
  const node = await ask(site, '/v1/ipxe/node/node1/autoexec.ipxe')
  t.match(node.body.toString(), 'https://boot.example.test:8443/v1/boot/node1/stage1.ipxe?')
  t.ok((await ask(site, '/v1/ipxe/node/node1/ipxe.efi')).body.equals(binary))
  const stranger = await ask(site, '/v1/ipxe/node/no-such-node/autoexec.ipxe')
  t.equal(
    stranger.status,
    200,
    'a name that is nobody answers like one that is: this tells nothing of the fleet',
  )
  for (const { body } of [any, node, stranger]) {
    t.notMatch(body.toString(), site.secret, "no node's secret is in it")
    t.notMatch(body.toString(), /[?&]secret=/)
  }
})

t.test('what is not there, and what is no name', async (t) => {
  const site = await openSite(t)
  add(site, 'ipxe.efi', binary)
  writeFileSync(join(site.dataDir, 'ipxe', 'loose.efi'), 'a file that nobody added')
  writeFileSync(join(site.dataDir, 'ca.key'), 'a secret')
  const paths = [
    '/v1/ipxe/none.efi',
    '/v1/ipxe/IPXE.EFI',
    '/v1/ipxe/loose.efi',
    '/v1/ipxe/index.json',
    '/v1/ipxe/',
    '/v1/ipxe',
    '/v1/ipxe/../ca.key',
    '/v1/ipxe/..%2fca.key',
    '/v1/ipxe/%2e%2e%2fca.key',
    '/v1/ipxe/ipxe.efi%00',
    '/v1/ipxe/ipxe.efi/autoexec.ipxe',
    '/v1/ipxe/node/node1/../../../ca.key',
    '/v1/ipxe/node/node1/none.efi',
    '/v1/ipxe/node/NODE1/autoexec.ipxe',
    '/v1/ipxe/node/-/autoexec.ipxe',
    '/v1/ipxe/node/a%0ab/autoexec.ipxe',
    '/v1/ipxe/node/a$%7Buuid%7D/autoexec.ipxe',
    `/v1/ipxe/node/${'a.'.repeat(140)}a/autoexec.ipxe`,
  ]
  for (const path of paths) {
    for (const method of ['GET', 'HEAD']) {
      const { status, body } = await ask(site, path, { method })
      t.equal(status, 404, `${method} ${path.slice(0, 60)}`)
      t.equal(body.toString(), method === 'GET' ? 'not found\n' : '')
    }
  }
  t.equal((await ask(site, '/v1/ipxe/ipxe.efi', { method: 'POST' })).status, 404)
  t.equal((await ask(site, '/v1/ipxe/%zz')).status, 400)
  t.ok([404, 414].includes((await ask(site, `/v1/ipxe/${'a'.repeat(2000)}`)).status ?? 0))
})

t.test('bytes that are not what was added are not sent, and the log says which', async (t) => {
  const site = await openSite(t)
  add(site, 'ipxe.efi', binary)
  add(site, 'other.efi', Buffer.from('MZ other'))
  const file = join(site.dataDir, 'ipxe', 'ipxe.efi')
  writeFileSync(file, 'MZ something else')
  t.equal((await ask(site, '/v1/ipxe/ipxe.efi')).status, 404)
  rmSync(file)
  symlinkSync('/etc/passwd', file)
  t.equal((await ask(site, '/v1/ipxe/ipxe.efi')).status, 404)
  t.ok((await ask(site, '/v1/ipxe/other.efi')).body.equals(Buffer.from('MZ other')), 'the others are served')
  t.match(site.faults, [{ name: 'ipxe.efi', message: /is not what was added/ }])
  writeFileSync(join(site.dataDir, 'ipxe', 'index.json'), '{')
  t.equal((await ask(site, '/v1/ipxe/other.efi')).status, 404)
  t.match(site.faults.at(-1), { name: 'index.json' })
  t.equal((await ask(site, '/v1/ipxe/autoexec.ipxe')).status, 200, 'the script is no file')
})

t.test('a file that breaks later is told of once, however often it is asked for', async (t) => {
  const site = await openSite(t)
  add(site, 'ipxe.efi', binary)
  t.equal((await site.binaries.list()).length, 1)
  writeFileSync(join(site.dataDir, 'ipxe', 'ipxe.efi'), 'MZ something else')
  for (let i = 0; i < 5; i += 1) t.equal((await ask(site, '/v1/ipxe/ipxe.efi')).status, 404)
  t.equal(site.faults.length, 1)
  add(site, 'ipxe.efi', binary)
  t.equal((await ask(site, '/v1/ipxe/ipxe.efi')).status, 200)
})

t.test('what is added, changed and taken away is seen by the next request', async (t) => {
  const site = await openSite(t)
  t.equal((await ask(site, '/v1/ipxe/ipxe.efi')).status, 404)
  for (const text of ['MZ one', 'MZ two']) {
    add(site, 'ipxe.efi', Buffer.from(text))
    t.equal((await ask(site, '/v1/ipxe/ipxe.efi')).body.toString(), text)
  }
  add(site, 'b.efi', Buffer.from('MZ b'))
  // The one in memory was checked when it was read: its file does not matter any more, until the index changes.
  t.equal((await ask(site, '/v1/ipxe/ipxe.efi')).body.toString(), 'MZ two')
})

t.test('memory has a bound: the binary used longest ago is read again', async (t) => {
  const site = await openSite(t, { maxBytes: 10 })
  add(site, 'a.efi', Buffer.from('MZaaaa'))
  add(site, 'b.efi', Buffer.from('MZbbbb'))
  add(site, 'large.efi', Buffer.alloc(100, 1))
  for (const [name, first] of [
    ['a.efi', 'M'],
    ['b.efi', 'M'],
    ['large.efi', '\u0001'],
    ['a.efi', 'M'],
  ] as const)
    t.equal((await ask(site, `/v1/ipxe/${name}`)).body.toString('latin1', 0, 1), first, name)
})

t.test('a thousand at once are sent the same bytes', async (t) => {
  const site = await openSite(t)
  add(site, 'ipxe.efi', binary)
  const found = await Promise.all(Array.from({ length: 1000 }, () => site.binaries.find('ipxe.efi')))
  t.equal(new Set(found.map((one) => one?.bytes)).size, 1)
})

t.test('the log has the route, not the path', async (t) => {
  const site = await openSite(t)
  await ask(site, '/v1/ipxe/something-private.efi?k=v')
  // The line is written once the answer is sent: the client may have it first.
  await until(t, async () => site.lines.some((line) => line.includes('/v1/ipxe/:file')), true)
  t.notMatch(site.lines.join(''), 'something-private')
})
