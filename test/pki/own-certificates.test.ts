import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { join } from 'node:path'
import { connect } from 'node:tls'
import t, { type Test } from 'tap'
import { faultsOf, type OwnFault } from '../../src/pki/own-faults.ts'
import { type OwnCertificates, type OwnFiles, readOwn } from '../../src/pki/own-files.ts'
import { loadOwnTls } from '../../src/pki/own-tls.ts'
import type { CertificateKind } from '../../src/pki/profiles.ts'
import { generateEcKey, generateKey, makeCertificate } from '../../src/pki/x509.ts'
import { pemOfCurve } from '../helpers/keys.ts'

/** Certificates of the operator's own: what is taken, what is refused, and what is taken with a warning. */
const now = new Date('2026-11-21T06:00:00.000Z')
const names = ['boot.example.test']
const day = 86_400_000

interface Made {
  readonly certificate: string
  readonly key: string
}
interface Wish {
  readonly kind?: CertificateKind
  readonly key?: string
  readonly names?: readonly string[]
  readonly now?: Date
  readonly notAfter?: Date
  readonly commonName?: string
}

const rsaKeys = await Promise.all([2048, 2048, 2048].map((bits) => generateKey(bits)))
const [rootKey = '', caKey = '', leafKey = ''] = rsaKeys
const root = await make({ kind: 'root', key: rootKey, commonName: 'Corporate root', names: [] })
const otherRoot = await make({ kind: 'root', key: caKey, commonName: 'Another root', names: [] })
const ca = await make({ kind: 'issuing', key: caKey, commonName: 'Corporate CA', names: [] }, root)
const leaf = await make({})
const ecKey = await generateEcKey()
const ecLeaf = await make({ kind: 'boot-server-ecdsa', key: ecKey })

async function make(
  wish: Wish,
  issuer: Made | undefined = wish.kind === 'root' ? undefined : ca,
): Promise<Made> {
  const { key = leafKey, kind = 'boot-server', commonName = 'boot.example.test' } = wish
  const certificate = await makeCertificate({
    kind,
    commonName,
    names: wish.names ?? names,
    key,
    now: wish.now ?? now,
    ...(wish.notAfter === undefined ? {} : { notAfter: wish.notAfter }),
    ...(issuer === undefined ? {} : { issuer }),
  })
  return { certificate, key }
}

/** Files in a folder of the test's own. */
function files(
  t: Test,
  {
    cert = leaf.certificate + ca.certificate,
    key = leafKey,
    roots = root.certificate,
    more = [] as Made[],
  } = {},
): OwnFiles {
  const folder = t.testdir({})
  const put = (name: string, text: string, mode = 0o644): string => {
    writeFileSync(join(folder, name), text, { mode })
    return join(folder, name)
  }
  const pairs = [{ certFile: put('fullchain.pem', cert), keyFile: put('key.pem', key, 0o600) }]
  for (const [at, { certificate, key }] of more.entries())
    pairs.push({ certFile: put(`${at}.pem`, certificate), keyFile: put(`${at}.key`, key, 0o600) })
  return { pairs, caFile: put('roots.pem', roots) }
}

t.test('what cannot be served is refused, by file and remedy', async (t) => {
  const refused: [string, (t: Test) => OwnFiles, string, RegExp][] = [
    ['no file', (t) => ({ ...files(t), caFile: '/nowhere/ca.pem' }), 'not-found', /no \/nowhere\/ca\.pem/],
    [
      'no certificate in it',
      (t) => files(t, { cert: 'x' }),
      'certificate-invalid',
      /fullchain\.pem holds no certificate/,
    ],
    [
      'half a certificate',
      (t) => files(t, { cert: `${leaf.certificate}${ca.certificate.slice(0, 400)}` }),
      'certificate-invalid',
      /does not lead to a root of .*roots\.pem: nothing there issued "CN=boot\.example\.test"/,
    ],
    [
      "another certificate's key",
      (t) => files(t, { key: caKey }),
      'certificate-invalid',
      /the leaf is certificate 2 in/,
    ],
    [
      'a foreign key',
      (t) => files(t, { key: rootKey }),
      'certificate-invalid',
      /key\.pem is not the key of .*fullchain\.pem/,
    ],
    [
      'half a key',
      (t) => files(t, { key: leafKey.slice(0, 300) }),
      'key-unreadable',
      /key\.pem holds no private key/,
    ],
    [
      'cert.pem instead of fullchain.pem',
      (t) => files(t, { cert: leaf.certificate }),
      'certificate-invalid',
      /nothing there issued "CN=boot\.example\.test"/,
    ],
    [
      'another root',
      (t) => files(t, { roots: otherRoot.certificate }),
      'certificate-invalid',
      /nothing there issued "CN=Corporate CA"/,
    ],
    [
      'two of one kind',
      (t) => files(t, { more: [{ certificate: leaf.certificate + ca.certificate, key: leafKey }] }),
      'certificate-invalid',
      /both have a key of the kind rsa/,
    ],
  ]
  for (const [what, place, code, message] of refused)
    t.throws(() => readOwn(place(t)), { code, message }, what)
  const loose = files(t)
  chmodSync(loose.pairs[0]!.keyFile, 0o644)
  t.throws(() => readOwn(loose), { code: 'key-unreadable', message: /0644/ }, 'a key that everyone can read')
  chmodSync(loose.pairs[0]!.keyFile, 0o640)
  t.ok(readOwn(loose), 'but its group may')
})

t.test('the chain that is sent: in order, without what leads nowhere, and with the root', (t) => {
  const sent = (own: OwnCertificates): string[] =>
    own.certificates[0]!.chain.map(({ subject }) => subject ?? '')
  const usual = ['CN=boot.example.test', 'CN=Corporate CA', 'CN=Corporate root']
  t.same(sent(readOwn(files(t))), usual)
  const mixed = leaf.certificate + otherRoot.certificate + root.certificate + ca.certificate
  const own = readOwn(files(t, { cert: mixed, roots: otherRoot.certificate + root.certificate }))
  t.same(sent(own), usual, 'in another order')
  t.equal(own.certificates[0]!.rootInFile, true)
  t.equal(own.certificates[0]!.unused, 1)
  t.end()
})

/** What is said of a certificate that can be served. */
function said(t: Test, wish: Parameters<typeof files>[1] = {}, at = now): OwnFault[] {
  return faultsOf(readOwn(files(t, wish)), { needed: 'boot.example.test', others: [] }, at, {
    firmware: true,
  })
}

t.test('what is wrong is told with its remedy', async (t) => {
  t.same(said(t), [], 'nothing of a good one')
  const chainOf = ({ certificate }: Made, ...more: Made[]): string =>
    [certificate, ...more.map((one) => one.certificate), ca.certificate].join('')
  const sub = await make({ kind: 'issuing', key: rsaKeys[0]!, commonName: 'Sub', names: [] })
  const subSub = await make({ kind: 'issuing', key: rsaKeys[1]!, commonName: 'Sub sub', names: [] }, sub)
  const big = await generateKey(3072)
  const weak = await generateKey(1024)
  const p384 = pemOfCurve('secp384r1')
  const long = await make({}, subSub)
  const table: [string, Parameters<typeof files>[1], OwnFault['level'], RegExp, Date?][] = [
    [
      'another name',
      { cert: chainOf(await make({ names: ['www.example.test'] })) },
      'refuse',
      /is not for boot\.example\.test/,
    ],
    [
      'for clients',
      { cert: chainOf(await make({ kind: 'operator-client' })) },
      'refuse',
      /not for TLS servers/,
    ],
    ['a CA', { cert: chainOf(await make({ kind: 'issuing' })) }, 'refuse', /begins with a CA/],
    ['RSA 1024', { cert: chainOf(await make({ key: weak })), key: weak }, 'refuse', /1024 bits is broken/],
    [
      'RSA 3072',
      { cert: chainOf(await make({ key: big })), key: big },
      'warn',
      /3072 bits: each handshake costs/,
    ],
    ['no RSA', { cert: chainOf(ecLeaf), key: ecKey }, 'warn', /no RSA certificate: iPXE before 2\.0\.0/],
    [
      'P-384',
      { cert: chainOf(await make({ key: p384, kind: 'boot-server-ecdsa' })), key: p384 },
      'warn',
      /secp384r1/,
    ],
    [
      'no RSA key exchange',
      { cert: chainOf(await make({ kind: 'operator-server' })) },
      'warn',
      /RSA key exchange/,
    ],
    ['not yet', {}, 'fail', /not good before 2026-11-14/, new Date('2026-11-01T00:00:00Z')],
    ['ended', {}, 'fail', /has ended on 2027-11-21/, new Date('2027-11-22T00:00:00Z')],
    ['ends soon', {}, 'warn', /ends on 2027-11-21T06:00:00\.000Z/, new Date('2027-11-08T00:00:00Z')],
    ['a long chain', { cert: chainOf(long, subSub, sub) }, 'warn', /5 certificates \(\d+ bytes\) are sent/],
    [
      'a needless certificate',
      { cert: chainOf(leaf, otherRoot) },
      'warn',
      /1 of its certificates lead nowhere/,
    ],
    ['no root as root', { roots: ca.certificate }, 'warn', /"CN=Corporate CA" in bootCaFile is no root/],
  ]
  for (const [what, wish, level, found, at] of table) {
    const fault = said(t, wish, at).find((one) => found.test(one.found))
    t.equal(fault?.level, level, what)
    t.ok((fault?.advice ?? '').length > 5, `${what}: ${fault?.advice}`)
  }
  const days6 = await make({ notAfter: new Date(now.getTime() + 6 * day) })
  t.same(said(t, { cert: chainOf(days6) }), [], 'one of 6 days is not called late on its first')
  const own = readOwn(files(t))
  const ecCa = await make({ kind: 'issuing', key: ecKey, commonName: 'EC CA', names: [] }, root)
  const certificate = own.certificates[0]!
  const [ec] = readOwn(files(t, { cert: ecCa.certificate, key: ecKey })).certificates
  const overEc = { ...own, certificates: [{ ...certificate, chain: [certificate.leaf, ...ec!.chain] }] }
  t.match(
    faultsOf(overEc, { needed: 'boot.example.test', others: ['10.0.0.1'] }, now, { firmware: true }),
    [
      { level: 'warn', found: /is not for 10\.0\.0\.1$/ },
      { level: 'warn', found: /a CA over this RSA certificate has no RSA key/ },
    ],
    'RSA that only newer clients can check, and a name that is missing',
  )
})

t.test('files that change are taken when they are whole and good, and else not', async (t) => {
  const place = files(t)
  const [pair] = place.pairs
  const fresh = (key: string, wish: Wish = {}): Promise<Made> => make({ key, ...wish })
  const told: OwnFault[] = []
  const request = { kind: 'boot', files: place, names: { needed: 'boot.example.test', others: [] } } as const
  const tls = loadOwnTls({ ...request, now, warn: (fault) => told.push(fault) })
  t.same(told, [])
  t.equal(tls.roots, root.certificate)
  const server = createServer(tls.options(), (_request, response) => response.end())
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  t.teardown(() => server.close())
  const served = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const { port } = server.address() as { port: number }
      const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
        resolve(socket.getPeerCertificate().fingerprint256)
        socket.destroy()
      }).on('error', reject)
    })
  const first = await served()
  const put = (file: string, text: string): void => {
    writeFileSync(`${file}.new`, text, { mode: 0o600 })
    renameSync(`${file}.new`, file)
  }
  t.equal(await tls.reload?.(now), false, 'nothing changed')

  const next = await fresh(rootKey)
  put(pair!.certFile, next.certificate + ca.certificate)
  t.equal(await tls.reload?.(now), false, 'the certificate is there, its key is not yet')
  put(pair!.keyFile, rootKey)
  t.equal(await tls.reload?.(now), true, 'both are there')
  server.setSecureContext(tls.options())
  t.not(await served(), first, 'and are served without a restart')
  const second = tls.options()

  const bad: [string, () => void, RegExp][] = [
    ['cut short', () => put(pair!.certFile, next.certificate.slice(0, 500)), /holds no certificate/],
    ['gone', () => rmSync(pair!.keyFile), /there is no .*key\.pem/],
    [
      'a folder',
      () => {
        rmSync(pair!.keyFile)
        mkdirSync(pair!.keyFile)
      },
      /is not a file/,
    ],
  ]
  for (const [what, spoil, message] of bad) {
    const before = [pair!.certFile, pair!.keyFile].map((file) => readFileSync(file, 'utf8'))
    spoil()
    t.equal(await tls.reload?.(now), false, `${what}: it may be half written`)
    await t.rejects(tls.reload!(now), { message }, `${what}: told`)
    t.equal(await tls.reload?.(now), false, `${what}: once`)
    t.same(tls.options(), second, `${what}: the old one goes on`)
    rmSync(pair!.keyFile, { force: true, recursive: true })
    put(pair!.certFile, before[0]!)
    put(pair!.keyFile, before[1]!)
    t.equal(await tls.reload?.(now), true, `${what}: mended`)
  }
  const ended = await fresh(rootKey, {
    now: new Date(now.getTime() - 500 * day),
    notAfter: new Date(now.getTime() - day),
  })
  put(pair!.certFile, ended.certificate + ca.certificate)
  await tls.reload?.(now)
  await t.rejects(tls.reload!(now), { message: /has ended on/ }, 'one that has ended takes no place')
  const start = loadOwnTls({ ...request, now, warn: (fault) => told.push(fault) })
  t.match(told, [{ level: 'fail', found: /has ended on/ }], 'but at the start it is served, and told')
  t.ok(start.notAfter < now)
})

t.test('an ECDSA certificate beside the RSA one', async (t) => {
  const place = files(t, { more: [{ certificate: ecLeaf.certificate + ca.certificate, key: ecKey }] })
  const warn = (fault: OwnFault): void => void t.fail(fault.found)
  const request = { kind: 'boot', files: place, names: { needed: names[0]!, others: [] }, now, warn } as const
  t.equal(loadOwnTls(request).options().cert.length, 2)
})
