import { execFile, spawnSync } from 'node:child_process'
import { createHash, X509Certificate } from 'node:crypto'
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { connect, type DetailedPeerCertificate, type PeerCertificate, type TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { initData } from '../../src/pki/data-folder.ts'
import { type ListenerKind, loadTls } from '../../src/pki/tls.ts'

const now = new Date('2026-11-21T06:00:00.000Z')
const names = ['boot.example.test', '10.0.2.2', '2001:db8::1']

const noOpenssl =
  spawnSync('openssl', ['version']).error === undefined ? undefined : 'openssl is not installed'
const needsOpenssl = noOpenssl !== undefined && process.env.PAWL_REQUIRE !== 'all' ? { skip: noOpenssl } : {}

function days(count: number, from = now): Date {
  return new Date(from.getTime() + count * 86_400_000)
}

/** A data folder with a CA. */
async function makeData(t: Test): Promise<string> {
  const dataDir = join(t.testdir({}), 'data')
  await initData({ dataDir, publicUrl: undefined, names: [], now })
  return dataDir
}

async function load(dataDir: string, kind: ListenerKind, options: { names?: string[]; now?: Date } = {}) {
  return loadTls(openAuthority(dataDir), { kind, names, now, ...options })
}

/** The certificates of a PEM bundle, first to last. */
function certificates(pem: string): X509Certificate[] {
  return (pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(
    (text) => new X509Certificate(text),
  )
}

function leafOf(pem: string): X509Certificate {
  return certificates(pem)[0]! // a bundle that was issued here begins with the leaf
}

/** A chain in files, for openssl. */
function writeChain(t: Test, pem: string): { leaf: string; issuing: string; root: string } {
  const folder = t.testdir({})
  const [leaf, issuing, root] = ['leaf', 'issuing', 'root'].map((name, at) => {
    const file = join(folder, `${name}.crt`)
    writeFileSync(file, certificates(pem)[at]!.toString()) // three, checked by the first test
    return file
  })
  return { leaf: leaf!, issuing: issuing!, root: root! } // one of each name above
}

/** Runs openssl; resolves to its exit code and everything it printed. */
async function openssl(...args: string[]): Promise<{ code: number; text: string }> {
  const running = promisify(execFile)('openssl', args, { timeout: 120_000 })
  running.child.stdin?.end()
  return running.then(
    ({ stdout, stderr }) => ({ code: 0, text: stdout + stderr }),
    (error: { code: number; stdout: string; stderr: string }) => ({
      code: error.code,
      text: error.stdout + error.stderr,
    }),
  )
}

function verify(chain: { leaf: string; issuing: string; root: string }, ...args: string[]) {
  const trust = ['-x509_strict', '-CAfile', chain.root, '-untrusted', chain.issuing]
  return openssl('verify', ...trust, '-purpose', 'sslserver', ...args, chain.leaf)
}

function at(date: Date): string[] {
  return ['-attime', String(date.getTime() / 1000)]
}

t.test('loadTls refuses', async (t) => {
  await t.test('a CA whose root certificate is another one', async (t) => {
    const ours = await makeData(t)
    const theirs = join(ours, '..', 'theirs')
    await initData({ dataDir: theirs, publicUrl: undefined, names: [], now })
    renameSync(join(theirs, 'ca.crt'), join(ours, 'ca.crt'))
    t.throws(() => openAuthority(ours), { code: 'certificate-invalid', message: /does not belong to/ })
  })
  await t.test('to issue when the clock is outside the issuing certificate', async (t) => {
    const dataDir = await makeData(t)
    for (const wrong of [days(-8), days(4000)]) {
      await t.rejects(load(dataDir, 'boot', { now: wrong }), { code: 'certificate-invalid', hint: /clock/ })
    }
  })
})

t.test('the chain that a listener sends', async (t) => {
  const dataDir = await makeData(t)
  for (const kind of ['boot', 'operator'] as const) {
    await t.test(`is leaf, issuing CA and root: ${kind}`, async (t) => {
      const { cert } = (await load(dataDir, kind)).options()
      const [leaf, issuing, root, ...more] = certificates(cert[0]!)
      t.equal(more.length, 0)
      // An iPXE that knows only a root's SHA-256 must find the root itself in the chain.
      const known = new X509Certificate(readFileSync(join(dataDir, 'ca.crt')))
      t.equal(root!.fingerprint256, known.fingerprint256)
      t.ok(leaf!.checkIssued(issuing!) && leaf!.verify(issuing!.publicKey))
      t.ok(issuing!.checkIssued(root!) && issuing!.verify(root!.publicKey))
      t.ok(root!.checkIssued(root!) && root!.verify(root!.publicKey))
      t.same(
        [leaf, issuing, root].map((each) => each!.ca),
        [false, true, true],
      )
      for (const each of [leaf, issuing, root]) t.equal(each!.publicKey.asymmetricKeyType, 'rsa')
    })
  }
  await t.test('begins seven days ago, for clocks that run behind', async (t) => {
    const chain = certificates((await load(dataDir, 'boot')).options().cert[0]!)
    for (const each of chain) t.equal(each.validFromDate.toISOString(), '2026-11-14T06:00:00.000Z')
  })
  await t.test('carries the names of the server and no others', async (t) => {
    const leaf = leafOf((await load(dataDir, 'boot')).options().cert[0]!)
    t.equal(leaf.checkHost('boot.example.test'), 'boot.example.test')
    t.equal(leaf.checkIP('10.0.2.2'), '10.0.2.2')
    t.equal(leaf.checkIP('2001:db8::1'), '2001:db8::1')
    t.equal(leaf.checkHost('other.example.test'), undefined)
    t.equal(leaf.checkIP('10.0.2.3'), undefined)
  })
})

t.test('openssl judges the boot chain', needsOpenssl, async (t) => {
  const chain = writeChain(t, (await load(await makeData(t), 'boot')).options().cert[0]!)
  const refused: [string, string[], RegExp][] = [
    ['another host name', [...at(now), '-verify_hostname', 'other.example.test'], /hostname mismatch/i],
    ['another address', [...at(now), '-verify_ip', '10.0.2.3'], /IP address mismatch/i],
    ['for clients', [...at(now), '-purpose', 'sslclient'], /unsuitable|unsupported certificate purpose/i],
    ['eight days ago', at(days(-8)), /not yet valid/],
    ['in thirteen months', at(days(396)), /expired/],
  ]
  for (const [what, args, why] of refused) {
    const { code, text } = await verify(chain, ...args)
    t.equal(code, 2, `refused: ${what}`)
    t.match(text, why)
  }
  for (const name of [
    '-verify_hostname boot.example.test',
    '-verify_ip 10.0.2.2',
    '-verify_ip 2001:db8::1',
  ]) {
    const { code, text } = await verify(chain, ...at(now), ...name.split(' '))
    t.equal(code, 0, `accepted: ${name} ${text}`)
  }
  const { text } = await openssl('x509', '-in', chain.leaf, '-noout', '-text')
  t.match(text, /Public-Key: \(2048 bit\)/)
  t.match(text, /Basic Constraints: critical\s+CA:FALSE/)
  t.match(text, /Key Usage: critical\s+Digital Signature, Key Encipherment\n/)
  t.match(text, /Extended Key Usage: ?\s+TLS Web Server Authentication\n/)
  const issuing = (await openssl('x509', '-in', chain.issuing, '-noout', '-text')).text
  t.match(issuing, /Basic Constraints: critical\s+CA:TRUE, pathlen:0/)
  t.match(issuing, /Key Usage: critical\s+Certificate Sign, CRL Sign\n/)
})

t.test('with the root key offline, listeners start, renew and change their names', async (t) => {
  const dataDir = await makeData(t)
  renameSync(join(dataDir, 'pki', 'root.key'), join(dataDir, '..', 'root.key'))
  t.equal(openAuthority(dataDir).rootKeyIsHere(), false)
  const tls = await load(dataDir, 'boot')
  t.equal(await tls.renewIfDue(days(300)), true)
  t.same(await createAuthority(dataDir, now), [], 'and pawl init has nothing to do')
  t.notOk(existsSync(join(dataDir, 'pki', 'root.key')), 'no second root key is made')
})

t.test('a certificate is kept', async (t) => {
  const dataDir = await makeData(t)
  const first = (await load(dataDir, 'boot')).options()
  const kept: [string, { names?: string[]; now?: Date }][] = [
    ['at the next start', {}],
    ['when names come in another order', { names: names.toReversed() }],
    ['until a third of its life is left', { now: days(240) }],
  ]
  for (const [when, options] of kept) {
    const tls = await load(dataDir, 'boot', options)
    t.same(tls.options(), first, when)
    t.equal(await tls.renewIfDue(options.now ?? now), false)
  }
})

t.test('a certificate is made again', async (t) => {
  const again: [string, { names?: string[]; now?: Date }][] = [
    ['when a name is new', { names: [...names, 'second.example.test'] }],
    ['when a name is gone', { names: names.slice(0, 2) }],
    ['when less than a third of its life is left', { now: days(242) }],
    ['when it has expired', { now: days(400) }],
  ]
  for (const [when, options] of again) {
    await t.test(when, async (t) => {
      const dataDir = await makeData(t)
      const first = (await load(dataDir, 'boot')).options()
      const second = (await load(dataDir, 'boot', options)).options()
      t.notSame(second.key, first.key, 'with a new key')
      const count = leafOf(second.cert[0]!).subjectAltName?.split(', ').length
      t.equal(count, (options.names ?? names).length)
    })
  }
  await t.test('when its file is cut short', async (t) => {
    const dataDir = await makeData(t)
    const first = (await load(dataDir, 'boot')).options()
    writeFileSync(join(dataDir, 'pki', 'boot.pem'), first.key[0]!)
    t.notSame((await load(dataDir, 'boot')).options().key, first.key)
  })
})

t.test('RSA and ECDSA side by side: both are renewed, each with its whole chain', async (t) => {
  const dataDir = await makeData(t)
  const request = { kind: 'boot', names, now, ecdsa: true } as const
  const tls = await loadTls(openAuthority(dataDir), request)
  const before = tls.options()
  t.equal(before.cert.length, 2)
  for (const [at, type] of ['rsa', 'ec'].entries()) {
    const [leaf, issuing, root, ...more] = certificates(before.cert[at]!)
    t.equal(leaf!.publicKey.asymmetricKeyType, type)
    t.ok(leaf!.checkIssued(issuing!) && leaf!.verify(issuing!.publicKey) && issuing!.verify(root!.publicKey))
    t.equal(more.length, 0)
    t.equal(leaf!.checkHost('boot.example.test'), 'boot.example.test')
  }
  t.same((await loadTls(openAuthority(dataDir), request)).options(), before, 'kept over a restart')
  rmSync(join(dataDir, 'pki/boot-ecdsa.pem'))
  const again = (await loadTls(openAuthority(dataDir), request)).options()
  t.equal(again.key[0], before.key[0], 'one that is lost is made again, the other stays')
  t.not(again.key[1], before.key[1])
  t.equal(await tls.renewIfDue(days(242)), true)
  t.not(tls.options().key[0], before.key[0])
  t.not(tls.options().key[1], before.key[1])
  const off = await loadTls(openAuthority(dataDir), { kind: 'boot', names, now: days(242) })
  t.equal(off.options().cert.length, 1, 'turned off, there is RSA alone')
})

/** Serves with what `loadTls` gave, until the test ends. */
async function serve(t: Test, options: object): Promise<{ server: Server; port: number }> {
  const server = createServer(options, (_request, response) => response.end('ok'))
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  t.teardown(() => server.close())
  return { server, port: (server.address() as AddressInfo).port } // a TCP address, as listened on
}

function handshake(options: object): Promise<{ socket: TLSSocket; chain: string[] }> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', servername: 'boot.example.test', ...options }, () => {
      const chain = fingerprints(socket.getPeerCertificate(true))
      socket.destroy()
      resolve({ socket, chain })
    })
    socket.on('error', reject)
  })
}

function fingerprints(peer: PeerCertificate | DetailedPeerCertificate): string[] {
  const issuer = 'issuerCertificate' in peer ? peer.issuerCertificate : undefined
  const own = createHash('sha256').update(peer.raw).digest('hex')
  return issuer === undefined || issuer === peer ? [own] : [own, ...fingerprints(issuer)]
}

t.test('a real handshake', needsOpenssl, async (t) => {
  // The peers here have the machine's clock: certificates are made for today.
  const today = new Date()
  const dataDir = join(t.testdir({}), 'data')
  await initData({ dataDir, publicUrl: undefined, names: [], now: today })
  const ca = join(dataDir, 'ca.crt')
  const boot = await load(dataDir, 'boot', { now: today })
  const operator = await load(dataDir, 'operator', { now: today })
  const both = await loadTls(openAuthority(dataDir), { kind: 'boot', names, now: today, ecdsa: true })
  const [{ server, port }, operatorSide, bothSide] = [
    await serve(t, boot.options()),
    await serve(t, operator.options()),
    await serve(t, both.options()),
  ]
  const client = (to: number, ...args: string[]) =>
    openssl(
      's_client',
      '-connect',
      `127.0.0.1:${to}`,
      '-CAfile',
      ca,
      '-verify_return_error',
      '-brief',
      ...args,
    )

  // Who, what it offers, and what it gets: the suite, and the kind of certificate with and without ECDSA.
  const rsa = ['RSA', 'RSA'] as const
  const either = ['ECDSA', 'RSA'] as const
  const clients: [string, string, RegExp, readonly [string, string]][] = [
    [
      'UEFI HTTPS Boot, RSA key exchange',
      '-tls1_2 -cipher AES256-GCM-SHA384',
      /: AES256-GCM-SHA384/,
      ['', ''],
    ],
    ['UEFI HTTPS Boot, DHE', '-tls1_2 -cipher DHE-RSA-AES256-GCM-SHA384', /: DHE-RSA-AES256-GCM-SHA384/, rsa],
    [
      'DHE before RSA key exchange',
      '-tls1_2 -cipher AES256-SHA256:DHE-RSA-AES128-GCM-SHA256',
      /: DHE-RSA/,
      rsa,
    ],
    ['iPXE before 2022, CBC', '-tls1_2 -cipher AES128-SHA256', /: AES128-SHA256/, ['', '']],
    [
      'iPXE 1.21.1',
      '-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256 -sigalgs RSA+SHA256',
      /: ECDHE-RSA/,
      rsa,
    ],
    [
      'iPXE 2.0.0',
      '-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256 -sigalgs RSA+SHA256:ECDSA+SHA256',
      /: ECDHE-(ECDSA|RSA)-AES128-GCM/,
      either,
    ],
    [
      'RSA first, ECDSA too',
      '-tls1_2 -cipher ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384',
      /: ECDHE-(ECDSA|RSA)-AES256-GCM/,
      either,
    ],
    ['the suite of ECDSA, and no signature of it', '-tls1_2 -sigalgs RSA+SHA256', /: ECDHE-RSA/, rsa],
    ['ECDSA, and not its curve', '-tls1_2 -curves X25519', /: ECDHE-RSA/, rsa],
    ['curl', '-tls1_3', /: TLS_AES_256_GCM_SHA384/, either],
    ['TLS 1.3 without ECDSA', '-tls1_3 -sigalgs RSA-PSS+SHA256', /: TLS_AES/, ['RSA-PSS', 'RSA-PSS']],
    ['our agents, both versions', '', /: TLS_AES/, either],
  ]
  for (const [who, args, suite, kinds] of clients) {
    for (const [at, to] of [bothSide.port, port].entries()) {
      const { code, text } = await client(to, ...args.split(' ').filter((word) => word !== ''))
      const what = `${who}, ECDSA ${at === 0 ? 'on' : 'off'}`
      t.equal(code, 0, `the boot listener serves ${what}`)
      t.match(text, /Verification: OK/)
      t.match(text, suite, what)
      const kind = /Signature type: (\S+)/.exec(text)?.[1] ?? ''
      t.ok(kinds[at] === 'RSA' ? /^RSA/.test(kind) : kind === kinds[at], `${what}: ${kind}`)
    }
  }
  const ecdsaOnly = ['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES128-GCM-SHA256']
  t.equal((await client(bothSide.port, ...ecdsaOnly)).code, 0, 'who takes ECDSA alone is served')
  t.not((await client(port, ...ecdsaOnly)).code, 0, 'but not where it is turned off')
  const old = await client(port, '-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0')
  t.not(old.code, 0, 'the boot listener refuses TLS 1.1')
  t.not((await client(operatorSide.port, '-tls1_2')).code, 0, 'the operator listener refuses TLS 1.2')
  t.equal((await client(operatorSide.port, '-tls1_3')).code, 0, 'the operator listener serves TLS 1.3')

  const known = createHash('sha256')
    .update(new X509Certificate(readFileSync(ca)).raw)
    .digest('hex')
  // Nothing is trusted beforehand: what the peer shows is all that the chain can be made of.
  const { chain } = await handshake({ port, rejectUnauthorized: false })
  t.equal(chain.length, 3)
  t.equal(chain[2], known, 'the root is sent')

  t.equal(await boot.renewIfDue(days(300, today)), true)
  server.setSecureContext(boot.options())
  const renewed = await handshake({ port, rejectUnauthorized: false })
  t.not(renewed.chain[0], chain[0], 'a renewed certificate is served without a restart')
  t.same(renewed.chain.slice(1), chain.slice(1), 'under the same CA')
})
