import { X509Certificate } from 'node:crypto'
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { t } from 'tap'
import { createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { loadTls } from '../../src/pki/tls.ts'

const day = 86_400_000
const now = new Date('2030-05-01T12:00:00Z')
const names = ['boot.example.net', '192.0.2.10']

const root = t.testdir({ ours: { pki: {} }, theirs: { pki: {} } })
await createAuthority(join(root, 'ours'), now)
await createAuthority(join(root, 'theirs'), now)
const authority = openAuthority(join(root, 'ours'))
const file = join(root, 'ours', 'pki', 'boot.pem')

function load(when = now) {
  return loadTls(authority, { kind: 'boot', names, now: when })
}

t.test('a key file that others can read is refused, not replaced', async (t) => {
  await load()
  const before = readFileSync(file, 'utf8')
  chmodSync(file, 0o644)
  await t.rejects(load(), { code: 'key-unreadable' })
  t.equal(readFileSync(file, 'utf8'), before)
  chmodSync(file, 0o600)
})

t.test('a certificate of another CA is not used', async (t) => {
  const theirs = await loadTls(openAuthority(join(root, 'theirs')), { kind: 'boot', names, now })
  writeFileSync(file, readFileSync(join(root, 'theirs', 'pki', 'boot.pem')))
  t.notSame((await load()).options().key, theirs.options().key)
})

t.test('a spoilt file is made again, for its owner alone', async (t) => {
  const whole = readFileSync(file, 'utf8')
  for (const spoilt of ['', 'x', whole.slice(0, -100), whole.slice(whole.indexOf('-----BEGIN CERT'))]) {
    writeFileSync(file, spoilt)
    const { key, cert } = (await load()).options()
    t.ok(readFileSync(file, 'utf8').startsWith(key[0]!), `${spoilt.length} bytes`)
    t.match(new X509Certificate(cert[0]!).checkHost('boot.example.net'), 'boot.example.net')
  }
  t.equal(statSync(file).mode & 0o777, 0o600)
})

t.test('the operator listener answers to this machine too', async (t) => {
  const tls = await loadTls(authority, { kind: 'operator', names: ['ops.example.net'], now })
  const leaf = new X509Certificate(tls.options().cert[0]!)
  for (const name of ['ops.example.net', 'localhost']) t.equal(leaf.checkHost(name), name)
  for (const address of ['127.0.0.1', '::1']) t.equal(leaf.checkIP(address), address)
  t.equal(leaf.checkHost('boot.example.net'), undefined)
})

t.test('a certificate is renewed while the server runs, and kept', async (t) => {
  const tls = await load()
  const before = tls.options()
  // 365 days, and 7 that it began early: its last third is 124 days.
  t.equal(await tls.renewIfDue(new Date(tls.notAfter.getTime() - 125 * day)), false)
  t.same(tls.options(), before)
  const when = new Date(tls.notAfter.getTime() - 123 * day)
  t.equal(await tls.renewIfDue(when), true)
  t.equal(tls.notAfter.getTime(), when.getTime() + 365 * day)
  t.notSame(tls.options().key, before.key)
  t.same((await load(when)).options(), tls.options(), 'over a restart')
  t.notSame(
    (await load(now)).options().key,
    tls.options().key,
    'but not after a clock that ran ahead was set back',
  )
})

t.test('a certificate that lasts as long as its issuer is not renewed in vain', async (t) => {
  const late = new Date(authority.issuingNotAfter.getTime() - 10 * day)
  const tls = await load(late)
  t.equal(tls.notAfter.getTime(), authority.issuingNotAfter.getTime())
  t.equal(await tls.renewIfDue(new Date(late.getTime() + 9 * day)), false)
  await t.rejects(tls.renewIfDue(new Date(late.getTime() + 11 * day)), { code: 'certificate-invalid' })
})
