import { execFileSync } from 'node:child_process'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { loadConfig } from '../../src/config.ts'
import type { Subject } from '../../src/doctor/finding.ts'
import { traces } from '../../src/doctor/traces.ts'
import { type TraceConfig, traceTarget } from '../../src/open-traces.ts'
import { parseHeaders } from '../../src/traces/headers.ts'
import { type Judged, judge } from '../../src/traces/judge.ts'
import { rejectedIn } from '../../src/traces/otlp.ts'
import { sendTraces, type TraceTarget } from '../../src/traces/send.ts'
import { prepared, temporaryFolder } from '../cli/helpers/installation.ts'
import { type Collector, startCollector } from './collector.ts'

const now = new Date('2026-11-21T06:00:00.000Z')
const root = join(import.meta.dirname, '../..')

const targetOf = ({ url }: Pick<Collector, 'url'>, wish: Partial<TraceTarget> = {}): TraceTarget => ({
  url: new URL(`${url}/v1/traces`),
  headers: { authorization: 'Bearer tell-nobody' },
  ca: undefined,
  timeoutMilliseconds: 10_000,
  ...wish,
})

async function judged(target: TraceTarget | (() => TraceTarget), impatient = false): Promise<Judged> {
  return judge(await sendTraces(target, new Uint8Array(), { now }), { rejectedIn, impatient })
}

t.test('what a collector answers, and what follows from it', async (t) => {
  const collector = await startCollector(t)
  const table: [number, Record<string, string>, Judged][] = [
    [200, {}, { kind: 'taken', rejected: 0 }],
    [204, {}, { kind: 'taken', rejected: 0 }],
    [
      301,
      { location: 'http://127.0.0.1:1/' },
      { kind: 'later', reason: '301: redirects are not followed (otlpEndpoint)', seconds: undefined },
    ],
    [
      307,
      { location: `${collector.url}/other` },
      { kind: 'later', reason: '307: redirects are not followed (otlpEndpoint)', seconds: undefined },
    ],
    [400, {}, { kind: 'refused', reason: '400' }],
    [
      401,
      {},
      { kind: 'later', reason: '401: it wants other credentials (otlpHeadersFile)', seconds: undefined },
    ],
    [
      403,
      {},
      { kind: 'later', reason: '403: it wants other credentials (otlpHeadersFile)', seconds: undefined },
    ],
    [404, {}, { kind: 'later', reason: '404: it has no such path (otlpEndpoint)', seconds: undefined }],
    [413, {}, { kind: 'refused', reason: '413' }],
    [415, {}, { kind: 'refused', reason: '415' }],
    [429, { 'retry-after': '30' }, { kind: 'later', reason: '429: it has too much to do', seconds: 30 }],
    [
      503,
      { 'retry-after': 'soon' },
      { kind: 'later', reason: '503: it has too much to do', seconds: undefined },
    ],
    [500, {}, { kind: 'later', reason: '500: it failed', seconds: undefined }],
  ]
  for (const [status, headers, expected] of table) {
    collector.answer = (response) => void response.writeHead(status, headers).end()
    const before = collector.requests.length
    t.same(await judged(targetOf(collector)), expected, String(status))
    t.equal(collector.requests.length, before + 1, 'one request')
  }
  collector.answer = (response) => void response.writeHead(500).end()
  t.same(
    await judged(targetOf(collector), true),
    { kind: 'refused', reason: '500' },
    'it fails because of what it is sent',
  )
  t.match(collector.requests[0]?.headers, {
    authorization: 'Bearer tell-nobody',
    'content-type': 'application/x-protobuf',
    'user-agent': 'pawl',
  })
  t.same(new Set(collector.requests.map(({ path }) => path)), new Set(['/v1/traces']))
})

t.test('a success that names spans that were not taken', async (t) => {
  const collector = await startCollector(t)
  const answers: [string, number][] = [
    ['0a020805', 5],
    ['', 0],
    ['0a00', 0],
    ['ffffffffff', 0],
    [Buffer.from('<html>').toString('hex'), 0],
    // A negative number.
    ['0a0b08ffffffffffffffffff01', 0],
  ]
  for (const [hex, rejected] of answers) {
    collector.answer = (response) => void response.writeHead(200).end(Buffer.from(hex, 'hex'))
    t.same(await judged(targetOf(collector)), { kind: 'taken', rejected }, hex)
  }
})

t.test('a collector that is slow, endless, silent or gone costs its time and no more', async (t) => {
  const collector = await startCollector(t)
  const soon = { timeoutMilliseconds: 2000 }
  const later = (reason: string): Judged => ({ kind: 'later', reason, seconds: undefined })
  collector.answer = () => {}
  t.same(await judged(targetOf(collector, soon)), later('no answer in time'), 'never answers')
  collector.answer = (response) => {
    response.writeHead(200)
    const timer = setInterval(() => response.write('x'), 20)
    response.once('close', () => clearInterval(timer))
  }
  t.same(
    await judged(targetOf(collector, soon)),
    { kind: 'taken', rejected: 0 },
    'a byte now and then: its status counts',
  )
  let sent = 0
  collector.answer = (response) => {
    response.writeHead(200)
    const more = (): void => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536))) sent += 65_536
      if (!response.destroyed) response.once('drain', more)
    }
    more()
  }
  t.same(await judged(targetOf(collector)), { kind: 'taken', rejected: 0 }, 'endless')
  t.ok(sent < 64 * 1024 * 1024, 'is not read to any end')
  collector.answer = (response) => void response.writeHead(200, { padding: 'x'.repeat(64 * 1024) }).end()
  t.same(
    await judged(targetOf(collector)),
    later('the exchange failed (HPE_HEADER_OVERFLOW)'),
    'huge headers',
  )
  collector.answer = (response) => void response.socket?.destroy()
  t.same(await judged(targetOf(collector)), later('the connection was reset'), 'hangs up')
  collector.answer = (response) => void response.socket?.end('SSH-2.0-OpenSSH_9.2\r\n')
  t.match(
    await judged(targetOf(collector)),
    { kind: 'later', reason: /^the exchange failed \(HPE_/ },
    'is none',
  )
  const cut = new AbortController()
  collector.answer = () => cut.abort()
  const outcome = await sendTraces(targetOf(collector), new Uint8Array(), { now, signal: cut.signal })
  t.equal(outcome.kind, 'failed', 'cut off when the server stops')
  await collector.shut()
  t.same(await judged(targetOf(collector)), later('nothing listens there'))
  const resolve = async (): Promise<string[]> => []
  t.match(await sendTraces(targetOf({ url: 'http://nowhere.example' }), new Uint8Array(), { now, resolve }), {
    reason: 'its name has no address',
  })
})

t.test('by HTTPS a collector is believed by the CA that is named, under its name', async (t) => {
  const collector = await startCollector(t, { tls: true })
  const { folder } = await prepared()
  const ca = readFileSync(join(folder, 'ca.crt'), 'utf8')
  t.same(await judged(targetOf(collector, { ca })), { kind: 'taken', rejected: 0 })
  t.match(await judged(targetOf(collector)), {
    reason: 'its certificate is not of a CA that is trusted (otlpCaFile)',
  })
  const resolve = async (): Promise<string[]> => ['127.0.0.1']
  const other = targetOf({ url: collector.url.replace('localhost', 'other.example') }, { ca })
  t.match(await sendTraces(other, new Uint8Array(), { now, resolve }), {
    reason: 'its certificate is for another name',
  })
  const plain = targetOf({ url: collector.url.replace('https', 'http') })
  t.match(await judged(plain), { kind: 'later' })
  t.equal(collector.requests.length, 1, 'headers go to nobody else')
})

t.test('headers are read from a file that only its owner can read', async (t) => {
  const good = 'Authorization: Bearer a b=\n\n# a comment\nX-Scope-OrgID:  team-1 \r\n'
  t.same(parseHeaders(good, 'f'), { authorization: 'Bearer a b=', 'x-scope-orgid': 'team-1' })
  const bad: [string, RegExp][] = [
    ['secret', /^f, line 1: this is not "Name: value"/],
    ['a: b\nSecret Name: x', /^f, line 2: this is not/],
    ['a: secr\u0007et', /^f, line 1: this is not/],
    ['a: secrét', /^f, line 1: this is not/],
    ['a:', /^f, line 1: this is not/],
    ['Host: x', /line 1: host is not to be set/],
    ['Content-Length: 1', /line 1: content-length is not to be set/],
    ['A: secret\na: secret', /line 2: a is there twice/],
    [Array.from({ length: 33 }, (_, n) => `h${n}: x`).join('\n'), /line 33: more than 32 headers/],
    [`a: ${'x'.repeat(17_000)}`, /longer than 16384 characters/],
  ]
  for (const [text, message] of bad) {
    try {
      parseHeaders(text, 'f')
      t.fail(`took ${text.slice(0, 40)}`)
    } catch (error) {
      t.match(error, { code: 'usage', message })
      t.notMatch(String(error), /secr/)
    }
  }
  const file = join(temporaryFolder(t), 'headers')
  const config = configOf({ otlpEndpoint: 'https://c.example', otlpHeadersFile: file })
  t.throws(() => traceTarget(config), { code: 'key-unreadable', message: /is not there/ })
  writeFileSync(file, 'a: b\n')
  chmodSync(file, 0o644)
  t.throws(() => traceTarget(config), { code: 'key-unreadable', message: /mode 0644/ })
  chmodSync(file, 0o600)
  t.match(traceTarget(config), { headers: { a: 'b' }, timeoutMilliseconds: 10_000 })
  t.match(
    await judged(() => traceTarget({ ...config, otlpCaFile: file }) as TraceTarget),
    {
      kind: 'later',
      reason: /is not a PEM certificate$/,
    },
    'what became unreadable since the start is told, not thrown',
  )
})

function configOf(flags: Record<string, string | string[]>): TraceConfig {
  return loadConfig({ flags: { data: '/nowhere', ...flags }, env: {}, fileName: 'none' })
}

t.test('the settings of a collector', async (t) => {
  t.equal(configOf({}).otlpEndpoint, undefined, 'off')
  for (const [given, expected] of [
    ['http://127.0.0.1:4318', 'http://127.0.0.1:4318/v1/traces'],
    ['https://c.example/', 'https://c.example/v1/traces'],
    ['https://c.example:443/otlp', 'https://c.example/otlp/v1/traces'],
    ['https://c.example/otlp/v1/traces', 'https://c.example/otlp/v1/traces'],
    ['http://[::1]:4318', 'http://[::1]:4318/v1/traces'],
  ] as const)
    t.equal(configOf({ otlpEndpoint: given }).otlpEndpoint, expected)
  for (const bad of [
    'c.example:4318',
    'grpc://c.example',
    'https://u:p@c.example',
    'https://c.example/?key=x',
    'https://c.example/#x',
    'https://c.example:0',
    'https://',
    `https://c.example/${'x'.repeat(2048)}`,
  ])
    t.throws(() => configOf({ otlpEndpoint: bad }), { code: 'usage' }, bad.slice(0, 40))
  t.same(
    configOf({ otlpResourceAttributes: ['deployment.environment.name=production', 'a=b=c'] })
      .otlpResourceAttributes,
    [
      { name: 'deployment.environment.name', value: 'production' },
      { name: 'a', value: 'b=c' },
    ],
  )
  for (const bad of ['a', '=b', 'A=b', 'a=', 'service.name=x', 'a=\u0007', `a=${'x'.repeat(256)}`])
    t.throws(() => configOf({ otlpResourceAttributes: [bad] }), { code: 'usage' }, bad.slice(0, 20))
})

t.test('pawl doctor asks the collector, and says what to do', async (t) => {
  const collector = await startCollector(t)
  const file = join(temporaryFolder(t), 'headers')
  writeFileSync(file, 'authorization: Bearer tell-nobody\n', { mode: 0o600 })
  const look = (flags: Record<string, string>) =>
    traces({ config: configOf(flags), now } as unknown as Subject)
  t.same(await look({}), [])
  const flags = { otlpEndpoint: collector.url, otlpHeadersFile: file, otlpTimeoutSeconds: '60' }
  t.match(await look(flags), [{ check: 'traces', level: 'ok', found: /\/v1\/traces answers in \d+ ms$/ }])
  const table: [number, 'fail' | 'warn', RegExp][] = [
    [401, 'fail', /otlpHeadersFile/],
    [302, 'fail', /it is not followed/],
    [404, 'fail', /4318/],
    [503, 'warn', /look at the collector/],
    [415, 'warn', /OTLP\/HTTP in protobuf/],
  ]
  for (const [status, level, advice] of table) {
    collector.answer = (response) => void response.writeHead(status).end('tell-nobody')
    const found = await look(flags)
    t.match(found, [{ level, advice }], String(status))
    t.notMatch(JSON.stringify(found), /tell-nobody/)
  }
  collector.answer = () => {}
  const impatient = { ...flags, otlpTimeoutSeconds: '1' }
  t.match(await look(impatient), [{ level: 'fail', found: /no answer in time$/ }])
  const far = { ...impatient, otlpEndpoint: 'http://192.0.2.1:4318' }
  t.match((await look(far)).at(-1), { level: 'warn', found: /in clear$/, advice: /https/ })
  t.same(
    collector.requests.flatMap(({ spans }) => spans),
    [],
    'with a request that holds no spans',
  )
})

t.test(
  'OpenTelemetry is loaded only where it is used, and then sets nothing global and reads no OTEL_ variable',
  async (t) => {
    // prom-client has the interfaces (@opentelemetry/api), which do nothing by themselves.
    const script = `
    import { registerHooks } from 'node:module'
    const loaded = []
    registerHooks({ load(url, context, next) { if (/@opentelemetry\\/(?!api\\/)/.test(url)) loaded.push(url); return next(url, context) } })
    const before = JSON.stringify([process.eventNames(), ...['SIGTERM', 'SIGINT', 'exit', 'beforeExit'].map((name) => process.listenerCount(name))])
    await import('./src/server.ts')
    const off = loaded.length
    const read = []
    const env = process.env
    process.env = new Proxy(env, { get: (all, name) => { if (String(name).startsWith('OTEL')) read.push(name); return all[name] } })
    const { openEncoder } = await import('./src/traces/otlp.ts')
    const bytes = openEncoder({ version: '1', resource: { 'service.name': 'pawl' } })([])
    const after = JSON.stringify([process.eventNames(), ...['SIGTERM', 'SIGINT', 'exit', 'beforeExit'].map((name) => process.listenerCount(name))])
    const api = globalThis[Symbol.for('opentelemetry.js.api.1')]
    console.log(JSON.stringify({ off, on: loaded.length > 0, read, same: before === after, api: api === undefined, bytes: bytes.length }))`
    const out = execFileSync(
      'env', // a test runner puts its own hooks into each Node that it starts
      [
        '-u',
        'NODE_OPTIONS',
        process.execPath,
        '--disable-warning=ExperimentalWarning',
        '--input-type=module',
        '-e',
        script,
      ],
      {
        cwd: root,
        encoding: 'utf8',
        env: {
          ...process.env,
          OTEL_EXPORTER_OTLP_HEADERS: 'x=y',
          OTEL_RESOURCE_ATTRIBUTES: 'a=b',
          OTEL_SERVICE_NAME: 'other',
        },
      },
    )
    t.same(JSON.parse(out), { off: 0, on: true, read: [], same: true, api: true, bytes: 0 })
  },
)
