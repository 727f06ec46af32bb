import { createHash, X509Certificate } from 'node:crypto'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config.ts'
import { generateKey, makeCertificate } from '../../src/pki/x509.ts'
import { cutOverRoot, rotateRoot } from '../../src/root-rotation.ts'
import { freePort } from '../helpers/ports.ts'
import { until } from '../helpers/until.ts'
import { type OpenOptions, open, openToEach, sessionOf } from './connection.ts'
import { install, type Server } from './installation.ts'

/** Certificates that change under a server of two workers: each of them shows the new ones, and so does one that is started again. */
const now = new Date() // TLS looks at the real clock

/** What each worker shows, by the fingerprint of its leaf and the number of certificates that it sends. */
async function shown(server: Server, options: OpenOptions = {}): Promise<string[]> {
  const seen = new Map<number, string>()
  for (const { socket, worker } of await openToEach(server, 2, 1, options)) {
    seen.set(worker, chainOf(socket.getPeerCertificate(true)))
    socket.destroy()
  }
  return [1, 2].map((worker) => seen.get(worker) ?? '')
}

type Peer = ReturnType<import('node:tls').TLSSocket['getPeerCertificate']> & { issuerCertificate?: Peer }

/** The fingerprints of a chain, the leaf first. */
function chainOf(leaf: Peer): string {
  const fingerprints = new Set<string>()
  for (let one: Peer | undefined = leaf; one?.raw !== undefined; one = one.issuerCertificate) {
    const fingerprint = createHash('sha256').update(one.raw).digest('hex')
    if (fingerprints.has(fingerprint)) break // a root is its own issuer
    fingerprints.add(fingerprint)
  }
  return [...fingerprints].join(' ')
}

const fingerprintOf = (pem: string): string =>
  new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase()
const chain = (...pems: string[]): string => pems.map(fingerprintOf).join(' ')

/** Kills each worker in turn, and waits until it serves again. */
async function killEach(server: Server): Promise<void> {
  for (const worker of [1, 2]) {
    const since = server.lines.length
    process.kill(server.workerOf(worker) as number, 'SIGKILL') // it runs
    await server.line((line) => line.msg === 'a worker serves again' && line.worker === worker, since)
  }
}

t.test(
  "a renewal of the operator's own certificate reaches every worker, from files as ACME clients leave them",
  async (t) => {
    const place = await install(t, 1)
    const [rootKey = '', leafKey = '', otherKey = ''] = await Promise.all(
      [2048, 2048, 2048].map((bits) => generateKey(bits)),
    )
    const root = await makeCertificate({
      kind: 'root',
      commonName: 'Corporate',
      names: [],
      key: rootKey,
      now,
    })
    const issuer = { certificate: root, key: rootKey }
    const leafFor = (key: string): Promise<string> =>
      makeCertificate({
        kind: 'boot-server',
        commonName: 'boot',
        names: ['127.0.0.1', 'localhost'],
        key,
        now,
        issuer,
      })
    const put = (name: string, text: string): string => {
      const file = join(place.folder, '..', name)
      writeFileSync(`${file}.new`, text, { mode: 0o600 })
      renameSync(`${file}.new`, file)
      return file
    }
    const port = await freePort()
    const [first, second] = [await leafFor(leafKey), await leafFor(otherKey)]
    const server = await place.start([
      ...['--boot-listen', `127.0.0.1:${port}`, '--public-url', `https://127.0.0.1:${port}`],
      ...['--boot-cert-file', put('boot.crt', first), '--boot-key-file', put('boot.key', leafKey)],
      ...['--boot-ca-file', put('roots.crt', root)],
    ])
    const trusting = { ca: root }
    t.same(await shown(server, trusting), [chain(first, root), chain(first, root)])
    const kept = await openToEach(server, 2, 1, trusting)

    put('boot.crt', second) // its key is still the other's: neither is taken
    put('boot.key', otherKey)
    await server.line(({ msg }) => msg === 'certificate taken from its files')
    await until(t, () => shown(server, trusting), [chain(second, root), chain(second, root)])
    for (const { ask, socket } of kept) {
      t.equal((await ask('GET', '/_ah/health')).status, 200, 'connections that are open stay')
      socket.destroy()
    }
    await killEach(server)
    t.same(
      await shown(server, trusting),
      [chain(second, root), chain(second, root)],
      'and so do workers that were started again',
    )
    server.child.kill('SIGTERM')
    t.match(await server.ended, { code: 0 })
  },
)

t.test('a root is rotated under workers: both are served by each, until one is cut over', async (t) => {
  const place = await install(t, 1)
  const { folder } = place
  const config = loadConfig({ flags: { data: folder }, env: {}, fileName: 'none' })
  const oldRoot = readFileSync(join(folder, 'ca.crt'), 'utf8')
  const made = await rotateRoot({ config, now })
  const newRoot = readFileSync(made.ca, 'utf8')
  const [port, oldPort] = [await freePort(), await freePort()]
  const server = await place.start([
    ...['--boot-listen', `127.0.0.1:${port}`, '--public-url', `https://127.0.0.1:${port}`],
    ...['--old-boot-listen', `127.0.0.1:${oldPort}`, '--old-public-url', `https://127.0.0.1:${oldPort}`],
  ])
  const [byNew, byOld] = [{ ca: newRoot }, { ca: oldRoot, port: oldPort }]
  const endsWith = async (options: OpenOptions, root: string): Promise<boolean[]> =>
    (await shown(server, options)).map((sent) => sent.endsWith(fingerprintOf(root)))
  const bothServe = async (t: Test): Promise<void> => {
    t.same(await endsWith(byNew, newRoot), [true, true], 'the new root by each')
    t.same(await endsWith(byOld, oldRoot), [true, true], 'the old one too')
    await t.rejects(open(server, { ...byOld, port }), { code: 'SELF_SIGNED_CERT_IN_CHAIN' })
  }
  await bothServe(t)
  await killEach(server)
  await bothServe(t)
  const before = await open(server, byOld)
  const session = await sessionOf(before)
  const leafBefore = (await shown(server, byNew))[0]

  await cutOverRoot({ config, now: new Date(), days: 30, force: true, apply: true })
  await server.line(({ msg }) => String(msg).startsWith('the root was cut over'))
  await until(t, () => refused(oldPort), true)
  t.same(await shown(server, byNew), [leafBefore, leafBefore], 'what new media know is served as before')
  const other = await open(server, { ...byNew, session })
  t.equal(
    other.socket.isSessionReused(),
    false,
    'who proved itself by the old root is not known by the new one',
  )
  other.socket.destroy()
  before.socket.destroy()
  await killEach(server)
  t.same(await shown(server, byNew), [leafBefore, leafBefore], 'by workers that were started again, too')
  t.equal(await refused(oldPort), true, 'which do not open the old one again')
  server.child.kill('SIGTERM')
  t.match(await server.ended, { code: 0 })
})

/** Whether nobody listens on a port. */
function refused(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve(false)
    }).on('error', () => resolve(true))
  })
}
