import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createPlainServer, type RequestListener } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { digestOf } from '../../src/domain/digest.ts'
import { createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { loadTls } from '../../src/pki/tls.ts'

/**
 * The agents' own download functions, with real curl, against a server of ours and an object store, each with a CA of its
 * own. The handover is read as the agents read it.
 */
const missing = ['curl', 'jq'].filter((name) => spawnSync('which', [name]).status !== 0)
const needs =
  missing.length > 0 && process.env.PAWL_REQUIRE !== 'all'
    ? { skip: `${missing.join(', ')} not installed` }
    : {}

const shared = mkdtempSync(join(tmpdir(), 'pawl-transfer-'))
t.teardown(() => rmSync(shared, { recursive: true, force: true }))
const bytes = randomBytes(3_000_000)

/** A CA with a certificate for 127.0.0.1. */
async function newCa(name: string) {
  const folder = join(shared, name)
  mkdirSync(join(folder, 'pki'), { recursive: true })
  const now = new Date() // curl looks at the real clock
  await createAuthority(folder, now)
  const authority = openAuthority(folder)
  const tls = (await loadTls(authority, { kind: 'boot', names: ['127.0.0.1'], now })).options()
  return { root: authority.rootCertificate, tls }
}

const [site, storage, stranger] = await Promise.all(['site', 'storage', 'stranger'].map(newCa))

type Seen = {
  readonly url: string
  readonly range: string | undefined
  readonly headers: Record<string, unknown>
}

/** Listens on a port of loopback; writes down what it is asked. */
async function serve(t: Test, tls: Record<string, unknown> | undefined, answer: RequestListener) {
  const seen: Seen[] = []
  const listener: RequestListener = (request, response) => {
    const { range, ...headers } = request.headers
    seen.push({ url: request.url ?? '', range, headers })
    answer(request, response)
  }
  const server = tls === undefined ? createPlainServer(listener) : createServer(tls, listener)
  server.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  t.teardown(() => (server as Server).close())
  const { port } = server.address() as AddressInfo
  return { origin: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`, seen }
}

/** Answers with the bytes that are asked for, `cut` of them when that is fewer. */
function sendBytes(cut = Number.POSITIVE_INFINITY): RequestListener {
  return (request, response) => {
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    const rest = bytes.subarray(start)
    const range = start > 0 ? { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` } : {}
    response.writeHead(start > 0 ? 206 : 200, { 'content-length': rest.length, ...range })
    if (cut >= rest.length) response.end(rest)
    else response.write(rest.subarray(0, cut), () => response.destroy())
  }
}

interface Wish {
  /** What the handover says of the store; left out: nothing. */
  readonly downloads?: { origin?: string; ca?: string; mirrorCa?: string }
  /** Where our server sends who follows; undefined: it sends the bytes itself. */
  readonly location?: (n: number) => string
  /** Where the answer says that a cache has it. */
  readonly mirror?: string
  /** Said in the agent's shell before it downloads. */
  readonly prelude?: string
}

/** Downloads one file as the agents do. */
async function download(t: Test, { downloads, location, mirror = '', prelude = '' }: Wish) {
  const folder = mkdtempSync(join(shared, 'run-'))
  let sent = 0
  const pawl = await serve(t, site?.tls, (request, response) => {
    if (location === undefined || request.headers['pawl-follows-redirects'] !== '1') {
      sendBytes()(request, response)
      return
    }
    sent += 1
    response.writeHead(307, { location: location(sent), 'content-length': 0 }).end()
  })
  const handover = {
    version: 1,
    host: 'node1',
    session: 's',
    base: `${pawl.origin}/v1/boot/node1`,
    ca: site?.root,
    time: null,
    nic: {},
    tokens: { report: 'report-token' },
    ...(downloads === undefined ? {} : { downloads }),
  }
  writeFileSync(join(folder, 'handover.json'), JSON.stringify(handover))
  // What a program is started with, anyone on the machine can see.
  const curl = spawnSync('which', ['curl'], { encoding: 'utf8' }).stdout.trim()
  mkdirSync(join(folder, 'bin'))
  writeFileSync(join(folder, 'bin/curl'), `#!/bin/sh\necho "$@" >>${folder}/argv\nexec ${curl} "$@"\n`, {
    mode: 0o755,
  })
  const lib = join(import.meta.dirname, '../../images/lib')
  const agent = readFileSync(join(lib, 'agent.sh'), 'utf8')
    .replace(/^RUN=.*$/m, `RUN=${folder}`)
    .replaceAll('/usr/lib/pawl/', `${lib}/`)
  const script = `set -u
${agent}
fail() { echo "error: $1"; exit 3; }
report_error() { echo "reported: $1"; }
pause() { NEXT_WAIT=1; }
show_progress() { :; }
${prelude}
read_handover
write_headers "$RUN/download.headers" capability-token
download filesystem "$BASE/artifacts/filesystem" ${digestOf(bytes)} ${bytes.length} "$RUN/download.headers" "$RUN/out" '${mirror}'`
  const child = spawn('sh', ['-c', script], {
    env: { ...process.env, PATH: `${folder}/bin:${process.env.PATH}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = new Promise((resolve) => child.once('exit', resolve))
  const [said, wrong, exit] = await Promise.all([text(child.stdout), text(child.stderr), exited])
  return {
    said: said + wrong,
    exit,
    pawl: pawl.seen,
    argv: readFileSync(join(folder, 'argv'), 'utf8'),
    folder,
  }
}

t.test('an agent is sent nowhere but to the origin that its handover names', needs, async (t) => {
  const store = await serve(t, storage?.tls, sendBytes())
  const evil = await serve(t, storage?.tls, sendBytes())
  const plain = await serve(t, undefined, sendBytes())
  const downloads = { origin: store.origin, ca: storage?.root ?? '' }
  const cases = [
    `${evil.origin}/images/x`,
    `${plain.origin}/images/x`,
    `${store.origin}.evil.example/x`,
    `${store.origin}@127.0.0.1/x`,
    'file:///etc/passwd',
  ]
  for (const url of cases) {
    const { said, exit } = await download(t, { downloads, location: () => url })
    t.match([exit, said], [3, /error: filesystem: the server sends us elsewhere than to https:/], url)
    t.notOk(said.includes(url), 'and the URL, which may be a secret, is not on the console')
  }
  const quoted = await download(t, { downloads, location: () => `${store.origin}/x"%0aoutput="/etc/passwd` })
  t.equal(quoted.exit, 3)
  t.strictSame([store.seen.length, evil.seen.length, plain.seen.length], [0, 0, 0])
})

t.test('an agent whose handover names no origin says so, and follows nothing', needs, async (t) => {
  const { said, exit, pawl } = await download(t, { location: () => 'https://127.0.0.1:1/' })
  t.match([exit, said], [0, /filesystem verified/])
  t.equal(pawl[0]?.headers['pawl-follows-redirects'], undefined)
})

t.test(
  'the bytes come from the store, without our token, by a URL that no program is started with',
  needs,
  async (t) => {
    for (const tls of [storage?.tls, undefined]) {
      const store = await serve(t, tls, sendBytes())
      const downloads = { origin: store.origin, ...(tls === undefined ? {} : { ca: storage?.root ?? '' }) }
      const location = () => `${store.origin}/images/a%2Fb?X-Amz-Expires=900&X-Amz-Signature=a-secret`
      const { said, exit, pawl, argv, folder } = await download(t, { downloads, location })
      t.match([exit, said], [0, /^pawl: boot: filesystem verified \(3 MiB in \d+ s\)$/m], store.origin)
      t.ok(readFileSync(join(folder, 'out')).equals(bytes))
      t.match(pawl, [
        { headers: { authorization: 'Bearer capability-token', 'pawl-follows-redirects': '1' } },
      ])
      t.match(store.seen, [{ url: '/images/a%2Fb?X-Amz-Expires=900&X-Amz-Signature=a-secret' }])
      t.equal(store.seen[0]?.headers.authorization, undefined)
      t.notMatch(JSON.stringify(store.seen), /capability-token/)
      t.notMatch(said + argv, /a-secret|capability-token/)
    }
  },
)

t.test('a download that breaks off asks the server for a fresh URL and goes on', needs, async (t) => {
  let answers = 0
  const store = await serve(t, storage?.tls, (request, response) => {
    answers += 1
    sendBytes(answers < 3 ? 1_000_000 : undefined)(request, response)
  })
  const downloads = { origin: store.origin, ca: storage?.root ?? '' }
  const { said, exit, pawl } = await download(t, { downloads, location: (n) => `${store.origin}/x?n=${n}` })
  t.match([exit, said], [0, /filesystem: cut at 33% .*\n(.*\n)*.*filesystem: cut at 66%/])
  const ranges = [undefined, 'bytes=1000000-', 'bytes=2000000-']
  t.strictSame(
    store.seen.map(({ url, range }) => [url, range]),
    ranges.map((range, i) => [`/x?n=${i + 1}`, range]),
  )
  t.strictSame(
    pawl.map(({ range }) => range),
    ranges,
  )
})

t.test('where the store brings nothing, the server is asked from then on', needs, async (t) => {
  const refusing = (status: number) =>
    serve(t, storage?.tls, (_request, response) => response.writeHead(status).end('<Error>no</Error>'))
  const cases = [
    ['it refuses', (await refusing(403)).origin, storage?.root],
    ['it has not got it', (await refusing(404)).origin, storage?.root],
    ['it fails', (await refusing(503)).origin, storage?.root],
    ['it sends elsewhere', (await refusing(302)).origin, storage?.root],
    ['it is away', 'https://127.0.0.1:1', storage?.root],
    ['its certificate is of another CA', (await serve(t, stranger?.tls, sendBytes())).origin, storage?.root],
    ['its CA is not named, and is not ours', (await serve(t, storage?.tls, sendBytes())).origin, undefined],
  ] as const
  for (const [name, origin, ca] of cases) {
    const downloads = { origin, ...(ca === undefined ? {} : { ca }) }
    const { said, exit, pawl } = await download(t, { downloads, location: () => `${origin}/x` })
    t.equal(exit, 0, name)
    t.match(said, `filesystem: nothing came from ${origin}: the server is asked from now on`)
    t.match(said, /filesystem verified/)
    t.strictSame(
      pawl.map(({ headers }) => headers['pawl-follows-redirects']),
      ['1', undefined],
    )
  }
})

t.test(
  'what a cache alters is refused, told to the server, and fetched from the server itself',
  needs,
  async (t) => {
    const altered = Buffer.from(bytes)
    altered[2_000_000] = (altered[2_000_000] ?? 0) ^ 1
    const cache = await serve(t, undefined, (_request, response) => response.end(altered))
    const { said, exit, pawl, folder } = await download(t, {
      mirror: `${cache.origin}/v1/artifacts/sha256/x`,
    })
    t.equal(exit, 0)
    t.match(
      said,
      /filesystem: ALTERED: what the cache http:\/\/127\.0\.0\.1:\d+ sent has the SHA-256 [0-9a-f]{64}/,
    )
    t.match(said, /reported: filesystem: altered by the cache/)
    t.match(said, /filesystem verified/)
    t.equal(pawl.length, 1, 'asked once, for all of it')
    t.equal(pawl[0]?.range, undefined)
    t.ok(readFileSync(join(folder, 'out')).equals(bytes))
  },
)

t.test('where a cache brings nothing, or what is no answer, the server is asked', needs, async (t) => {
  const answering = (status: number, headers = {}) =>
    serve(t, undefined, (_request, response) => response.writeHead(status, headers).end('no'))
  const cases = [
    ['it has not got it', (await answering(404)).origin],
    ['it fails', (await answering(502)).origin],
    ['it sends elsewhere', (await answering(302, { location: 'http://127.0.0.1:1/' })).origin],
    ['it is away', 'http://127.0.0.1:1'],
    ['its certificate is of a CA that nobody named', (await serve(t, stranger?.tls, sendBytes())).origin],
  ] as const
  for (const [name, origin] of cases) {
    const { said, exit, pawl } = await download(t, { mirror: `${origin}/v1/artifacts/sha256/x` })
    t.equal(exit, 0, name)
    t.match(said, `filesystem: nothing came from the cache ${origin}`, name)
    t.match(said, /filesystem verified/)
    t.match(pawl, [{ headers: { authorization: 'Bearer capability-token' } }])
  }
  for (const mirror of [
    'file:///etc/passwd',
    'ftp://127.0.0.1/x',
    'http://127.0.0.1:1/"x',
    'http://127.0.0.1:1/a b',
  ]) {
    const { said, exit, argv } = await download(t, { mirror })
    t.match([exit, said], [0, /filesystem verified/], mirror)
    t.notMatch(argv, /mirror/, 'not even tried')
  }
})

t.test(
  'a cache gets no token; what it broke off is gone on with, there and then from the server',
  needs,
  async (t) => {
    for (const [tls, ca] of [
      [undefined, undefined],
      [site?.tls, undefined],
      [storage?.tls, storage?.root],
    ] as const) {
      const cache = await serve(t, tls, sendBytes())
      const downloads = ca === undefined ? {} : { downloads: { mirrorCa: ca } }
      const { said, exit, pawl, folder } = await download(t, { mirror: `${cache.origin}/x`, ...downloads })
      t.match([exit, said], [0, /filesystem verified \(3 MiB in \d+ s, from a cache\)/])
      t.strictSame([pawl.length, cache.seen.length, cache.seen[0]?.headers.authorization], [0, 1, undefined])
      t.notMatch(JSON.stringify(cache.seen), /capability-token/)
      t.ok(readFileSync(join(folder, 'out')).equals(bytes))
    }
    let answers = 0
    const cache = await serve(t, undefined, (request, response) => {
      answers += 1
      if (answers < 3) sendBytes(1_000_000)(request, response)
      else response.destroy()
    })
    const { exit, pawl } = await download(t, { mirror: `${cache.origin}/x` })
    t.equal(exit, 0)
    t.strictSame(
      [...cache.seen, ...pawl].map(({ range }) => range),
      [undefined, 'bytes=1000000-', 'bytes=2000000-', 'bytes=2000000-'],
    )
  },
)

t.test(
  'a cache that sends without end, or hardly anything, keeps no machine from booting',
  needs,
  async (t) => {
    const noise = randomBytes(65_536)
    const endless = await serve(t, undefined, (_request, response) => {
      const more = (): void => {
        while (!response.destroyed && response.write(noise));
      }
      response.on('drain', more)
      more()
    })
    const flooded = await download(t, { mirror: `${endless.origin}/x` })
    t.match(
      [flooded.exit, flooded.said],
      [0, /ALTERED: what the cache .*filesystem verified \(3 MiB in \d+ s\)/s],
    )
    t.ok(readFileSync(join(flooded.folder, 'out')).equals(bytes))

    const dripping = await serve(t, undefined, (_request, response) => {
      response.writeHead(200, { 'content-length': bytes.length })
      let at = 0
      const timer = setInterval(() => {
        response.write(bytes.subarray(at, at + 1000))
        at += 1000
      }, 100)
      response.once('close', () => clearInterval(timer))
    })
    const prelude = 'MIRROR_SECONDS=0 MIRROR_RATE=1500000'
    const slow = await download(t, { mirror: `${dripping.origin}/x`, prelude })
    t.match([slow.exit, slow.said], [0, /the cache http:[^ ]* is too slow: the server is asked from now on/])
    t.match(slow.pawl, [{ range: /^bytes=\d+-$/ }], 'what did come is gone on from')
    t.ok(readFileSync(join(slow.folder, 'out')).equals(bytes))
  },
)
