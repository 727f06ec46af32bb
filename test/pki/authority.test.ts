import { execFileSync, spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { t } from 'tap'
import { isPawlError } from '../../src/errors.ts'
import { authorityFiles, createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { createClientAuthorities, openClientAuthority } from '../../src/pki/client-authority.ts'
import { certificateProfiles } from '../../src/pki/profiles.ts'
import { parseServerName, serverNames } from '../../src/pki/server-names.ts'
import { generateKey, makeSigningRequest } from '../../src/pki/x509.ts'

const now = new Date('2030-05-01T12:00:00Z')
const names = ['boot.example.net', '192.0.2.10', '2001:db8::10']
// Its absence is a failure only where everything must be there.
const absent = spawnSync('openssl', ['version']).status !== 0 && process.env.PAWL_REQUIRE !== 'all'
const needsOpenssl = { skip: absent && 'openssl is not installed' }

const root = t.testdir({ ca: { pki: {} }, other: { pki: {} }, copies: {} })
const [ca, other] = [join(root, 'ca'), join(root, 'other')]
await createAuthority(ca, now)
await createAuthority(other, now)

let copies = 0
/** A copy of the CA, to be harmed. */
function copy() {
  const dataDir = join(root, 'copies', String(copies++))
  cpSync(ca, dataDir, { recursive: true })
  return { dataDir, files: authorityFiles(dataDir) }
}

async function faultOf(work: () => unknown): Promise<string> {
  try {
    await work()
  } catch (error) {
    if (isPawlError(error)) return `${error.code}: ${error.message} | ${error.hint}`
    throw error
  }
  return 'no error'
}

t.test('refuses a CA of which something is missing, spoilt, or from elsewhere', async (t) => {
  const from = authorityFiles(other)
  const cases: [what: string, harm: (files: ReturnType<typeof authorityFiles>) => void, fault: RegExp][] = [
    [
      'no CA',
      (f) => [f.rootCertificate, f.issuingCertificate].forEach((x) => void rmSync(x)),
      /^not-found: .*no ca\.crt/,
    ],
    ['no root', (f) => rmSync(f.rootCertificate), /^certificate-invalid: .*ca\.crt is not there/],
    ['no issuing', (f) => rmSync(f.issuingCertificate), /^certificate-invalid: .*issuing\.crt is not there/],
    ['no issuing key', (f) => rmSync(f.issuingKey), /^key-unreadable: .*issuing\.key is not there/],
    [
      'empty key',
      (f) => writeFileSync(f.issuingKey, ''),
      /^key-unreadable: .*issuing\.key holds no private key/,
    ],
    [
      'spoilt root',
      (f) => writeFileSync(f.rootCertificate, 'x'),
      /^certificate-invalid: .*ca\.crt holds no certificate/,
    ],
    [
      'open key',
      (f) => chmodSync(f.issuingKey, 0o640),
      /^key-unreadable: .*issuing\.key has mode 0640.* chmod 600 /,
    ],
    [
      'a key of another',
      (f) => cpSync(from.issuingKey, f.issuingKey),
      /^certificate-invalid: .*issuing\.key does not belong/,
    ],
    [
      'a root of another',
      (f) => cpSync(from.rootCertificate, f.rootCertificate),
      /^certificate-invalid: .*issuing\.crt does not belong/,
    ],
  ]
  for (const [what, harm, fault] of cases) {
    const { dataDir, files } = copy()
    harm(files)
    t.match(await faultOf(() => openAuthority(dataDir)), fault, what)
  }
})

t.test('makes no second root when the first was lost', async (t) => {
  for (const lost of ['rootCertificate', 'issuingKey'] as const) {
    const { dataDir, files } = copy()
    rmSync(files[lost])
    t.match(
      await faultOf(() => createAuthority(dataDir, now)),
      /^certificate-invalid: .* is missing, but .* \| restore it/,
    )
    t.notOk(existsSync(files[lost]))
  }
  const { dataDir, files } = copy()
  rmSync(files.issuingCertificate)
  rmSync(files.rootKey)
  t.match(
    await faultOf(() => createAuthority(dataDir, now)),
    /^key-unreadable: .*root\.key is not there .*bring root\.key back/,
  )
})

t.test('refuses to issue outside its own lifetime', async (t) => {
  const authority = openAuthority(ca)
  const key = await generateKey()
  for (const when of ['2030-04-01T00:00:00Z', '2040-06-01T00:00:00Z']) {
    const request = { kind: 'boot-server', names, key, now: new Date(when) } as const
    t.match(
      await faultOf(() => authority.issue(request)),
      /^certificate-invalid: .*not now \| check this machine's clock/,
    )
  }
})

t.test('issues with the root key moved offline', async (t) => {
  const { dataDir, files } = copy()
  t.equal(openAuthority(dataDir).rootKeyIsHere(), true)
  renameSync(files.rootKey, join(root, 'offline.key'))
  const authority = openAuthority(dataDir)
  t.equal(authority.rootKeyIsHere(), false)
  t.same(await createAuthority(dataDir, now), [], 'nothing is made in its place')
  const key = await generateKey()
  t.match(await authority.issue({ kind: 'boot-server', names, key, now }), 'BEGIN CERTIFICATE')
})

t.test('a certificate is good for its names and its key, and begins a week early', async (t) => {
  const authority = openAuthority(ca)
  const key = await generateKey()
  const later = new Date('2031-05-01T12:00:00Z')
  const leaf = new X509Certificate(await authority.issue({ kind: 'boot-server', names, key, now: later }))
  t.equal(leaf.checkHost('boot.example.net'), 'boot.example.net')
  t.equal(leaf.checkHost('other.example.net'), undefined)
  t.equal(leaf.checkIP('192.0.2.10'), '192.0.2.10')
  t.equal(leaf.checkIP('2001:db8::10'), '2001:db8::10')
  t.equal(leaf.checkIP('192.0.2.11'), undefined)
  t.equal(leaf.validFromDate.toISOString(), '2031-04-24T12:00:00.000Z')
  t.equal(leaf.validToDate.toISOString(), '2032-04-30T12:00:00.000Z')
  t.equal(leaf.ca, false)
  t.ok(leaf.verify(new X509Certificate(authority.issuingCertificate).publicKey))
  t.match(leaf.publicKey.asymmetricKeyDetails, { modulusLength: 2048 })
  const again = new X509Certificate(await authority.issue({ kind: 'boot-server', names, key, now: later }))
  t.not(again.serialNumber, leaf.serialNumber)
})

t.test('a certificate lasts no longer than its issuer', async (t) => {
  const authority = openAuthority(ca)
  const key = await generateKey()
  const late = new Date('2040-03-01T00:00:00Z')
  const leaf = new X509Certificate(await authority.issue({ kind: 'boot-server', names, key, now: late }))
  t.equal(leaf.validToDate.toISOString(), authority.issuingNotAfter.toISOString())
  t.equal(authority.issuingNotAfter.toISOString(), '2040-04-28T12:00:00.000Z')
})

t.test('a name too long for a common name is in subjectAltName alone', async (t) => {
  const long = `${'a'.repeat(60)}.${'b'.repeat(60)}.example.net`
  const issued = await openAuthority(ca).issue({
    kind: 'operator-server',
    names: [long],
    key: await generateKey(),
    now,
  })
  t.equal(new X509Certificate(issued).subject, 'CN=Pawl')
  t.equal(new X509Certificate(issued).checkHost(long), long)
})

t.test(
  'one profile is for clients, and its certificates do not lead to the root that nodes trust',
  async (t) => {
    t.same(
      Object.entries(certificateProfiles).flatMap(([kind, { extendedKeyUsage }]) =>
        extendedKeyUsage === 'clientAuth' ? [kind] : [],
      ),
      ['operator-client', 'node-client'],
    )
    await createClientAuthorities(ca, now)
    const notAfter = new Date(now.getTime() + 86_400_000)
    const files = authorityFiles(ca)
    const roots = [files.rootCertificate, files.issuingCertificate]
    const pairs = [
      { kind: 'operator', own: 'clients.crt', other: 'nodes.crt' },
      { kind: 'node', own: 'nodes.crt', other: 'clients.crt' },
    ] as const
    for (const { kind, own, other } of pairs) {
      const request = await makeSigningRequest(await generateKey(), 'boot.example.net')
      const made = await openClientAuthority(ca, kind).issue({ name: 'ci', request, now, notAfter })
      const client = new X509Certificate(made.certificate)
      t.equal(client.subject, `CN=Pawl ${kind} ci`, 'what a request calls itself does not count')
      t.equal(client.subjectAltName, undefined, 'it has no name of a server')
      const authority = new X509Certificate(readFileSync(join(ca, 'pki', own)))
      t.equal(client.verify(authority.publicKey), true)
      for (const file of [...roots, join(ca, 'pki', other)]) {
        const stranger = new X509Certificate(readFileSync(file))
        for (const one of [client, authority]) t.equal(one.verify(stranger.publicKey), false, file)
      }
    }
  },
)

t.test('openssl accepts the chain, strictly', needsOpenssl, async (t) => {
  const { files } = copy()
  const authority = openAuthority(ca)
  const when = String(Math.floor(now.getTime() / 1000))
  for (const kind of ['boot-server', 'operator-server'] as const) {
    const leaf = join(files.folder, `${kind}.crt`)
    writeFileSync(leaf, await authority.issue({ kind, names, key: await generateKey(), now }))
    const check = (...more: string[]) => {
      const chain = ['-CAfile', files.rootCertificate, '-untrusted', files.issuingCertificate]
      const args = [
        'verify',
        '-x509_strict',
        '-purpose',
        'sslserver',
        '-attime',
        when,
        ...chain,
        ...more,
        leaf,
      ]
      return spawnSync('openssl', args, { encoding: 'utf8' })
    }
    t.equal(check('-verify_hostname', 'boot.example.net').stdout, `${leaf}: OK\n`, kind)
    t.equal(check('-verify_ip', '2001:db8::10').stdout, `${leaf}: OK\n`, kind)
    t.match(check('-verify_hostname', 'x.example.net').stderr, 'hostname mismatch')
    t.match(
      check('-purpose', 'sslclient').stderr,
      /unsuitable certificate purpose/,
      'it is no client certificate',
    )
  }
})

t.test('openssl shows what each certificate is for', needsOpenssl, async (t) => {
  const authority = openAuthority(ca)
  const text = (pem: string) =>
    execFileSync('openssl', ['x509', '-noout', '-text'], { input: pem, encoding: 'utf8' }).replace(
      /\s+/g,
      ' ',
    )
  const issue = async (kind: 'boot-server' | 'operator-server') =>
    text(await authority.issue({ kind, names, key: await generateKey(), now }))
  const rootText = text(authority.rootCertificate)
  t.match(rootText, /Subject: CN = Pawl root [0-9a-f]{8} /)
  t.match(rootText, 'Basic Constraints: critical CA:TRUE, pathlen:1 ')
  t.match(rootText, 'Key Usage: critical Certificate Sign, CRL Sign ')
  t.match(rootText, 'Not Before: Apr 24 12:00:00 2030 GMT Not After : Apr 25 12:00:00 2055 GMT')
  t.notMatch(rootText, 'Extended Key Usage')
  t.match(text(authority.issuingCertificate), 'Basic Constraints: critical CA:TRUE, pathlen:0 ')
  const boot = await issue('boot-server')
  t.match(boot, 'Basic Constraints: critical CA:FALSE ')
  t.match(boot, 'Key Usage: critical Digital Signature, Key Encipherment ')
  t.match(boot, 'Extended Key Usage: TLS Web Server Authentication X509v3')
  t.match(boot, 'DNS:boot.example.net, IP Address:192.0.2.10, IP Address:2001:DB8:0:0:0:0:0:10 ')
  t.match(boot, 'Signature Algorithm: sha256WithRSAEncryption')
  t.match(await issue('operator-server'), 'Key Usage: critical Digital Signature X509v3')
})

t.test('a CA made at any time is one that openssl accepts then', needsOpenssl, async (t) => {
  // From 2050 on dates have another form (RFC 5280 §4.1.2.5): a root made in 2026 does not reach it, one of 2049 begins there.
  for (const year of [2024, 2026, 2049, 2060]) {
    const when = new Date(`${year}-12-30T23:59:59.999Z`)
    const dataDir = join(root, 'copies', `made-${year}`)
    mkdirSync(join(dataDir, 'pki'), { recursive: true })
    await createAuthority(dataDir, when)
    const files = authorityFiles(dataDir)
    const at = String(Math.floor(when.getTime() / 1000))
    const args = [
      'verify',
      '-x509_strict',
      '-attime',
      at,
      '-CAfile',
      files.rootCertificate,
      files.issuingCertificate,
    ]
    t.match(spawnSync('openssl', args, { encoding: 'utf8' }).stdout, ': OK', String(year))
  }
})

t.test('a server name is a host name or an address, in one form', async (t) => {
  for (const text of [
    '*.example.net',
    'a_b',
    '',
    '.',
    'a..b',
    '10',
    '1.2.3',
    'fe80::1%eth0',
    '[192.0.2.1',
    'h:1',
    '[boot]',
  ]) {
    t.match(await faultOf(() => parseServerName(text)), /^invalid: /, text)
  }
  t.same(
    serverNames('https://Boot.Example.net:8443', [
      'BOOT.example.net.',
      '::FFFF:192.0.2.1',
      '192.0.2.1',
      '[2001:DB8::1]',
    ]),
    ['boot.example.net', '192.0.2.1', '2001:db8::1'],
  )
  t.same(serverNames('https://[2001:db8::1]:8443', []), ['2001:db8::1'])
})

t.test('keys are for their owner alone, certificates for everyone', async (t) => {
  const files = authorityFiles(ca)
  const mode = (file: string) => execFileSync('stat', ['-c', '%a', file], { encoding: 'utf8' }).trim()
  t.equal(mode(files.rootKey), '600')
  t.equal(mode(files.issuingKey), '600')
  t.equal(mode(files.rootCertificate), '644')
  t.match(readFileSync(files.rootKey, 'utf8'), /^-----BEGIN PRIVATE KEY-----\n/)
})
