import fc from 'fast-check'
import t from 'tap'
import {
  canonicalAddress,
  contains,
  countingUnit,
  isSingle,
  parseAddressRange,
  parseNodeAddress,
  sourceAddress,
} from '../../src/domain/address.ts'
import { canonicalJson } from '../../src/domain/canonical-json.ts'
import { canVerifyDigests, parseFacts, sameMachine } from '../../src/domain/facts.ts'
import {
  parseLabels,
  parseMac,
  parseNodeName,
  parseSerial,
  parseSystemUuid,
  quote,
} from '../../src/domain/node.ts'
import {
  hashesEqual,
  hashSecret,
  parseIdempotencyKey,
  parseToken,
  tokenFromRandom,
} from '../../src/domain/token.ts'

t.test('refuses what is no node name', async (t) => {
  const bad = [
    '',
    'A',
    'a b',
    'a_b',
    '-a',
    'a-',
    'a..b',
    '.a',
    'a.',
    'a/b',
    '../a',
    'ü',
    'a\n',
    `${'a'.repeat(64)}`,
    `${'a.'.repeat(127)}a`,
    '${x}',
    'a;b',
  ]
  for (const name of bad) t.throws(() => parseNodeName(name), { code: 'invalid' }, JSON.stringify(name))
  for (const name of ['a', 'mlab1.lga0t', '1', 'a-b', `${'a'.repeat(63)}.b`])
    t.equal(parseNodeName(name), name)
})

t.test('refuses what is no MAC address, UUID, serial or label', async (t) => {
  for (const mac of [
    '',
    '52:54:00:12:34',
    '52:54:00-12:34:56',
    '5254001234567',
    'g2:54:00:12:34:56',
    '52:54:00:12:34:56:78',
  ]) {
    t.throws(() => parseMac(mac), { code: 'invalid' }, mac)
  }
  for (const mac of ['52:54:00:AB:34:56', '52-54-00-ab-34-56', '525400ab3456'])
    t.equal(parseMac(mac), '52:54:00:ab:34:56')
  for (const uuid of [
    '',
    'x',
    '00000000-0000-0000-0000-000000000000',
    'ffffffff-ffff-ffff-ffff-ffffffffffff',
    '{11111111-2222-3333-4444-555555555555}',
  ]) {
    t.throws(() => parseSystemUuid(uuid), { code: 'invalid' }, uuid)
  }
  t.equal(parseSystemUuid('ABCDEF01-2222-3333-4444-555555555555'), 'abcdef01-2222-3333-4444-555555555555')
  for (const serial of ['', ' a', 'a ', 'a\t', 'é', 'a'.repeat(129)])
    t.throws(() => parseSerial(serial), { code: 'invalid' }, serial)
  t.equal(parseSerial('To be filled'), 'To be filled')
  for (const labels of [
    { A: 'x' },
    { a: '' },
    { a: 'x y' },
    { 'a b': 'x' },
    { a: 'x'.repeat(64) },
    Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`k${i}`, 'v'])),
  ]) {
    t.throws(() => parseLabels(labels), { code: 'invalid' })
  }
  t.same(parseLabels({ 'pawl.io/site': 'lga.1' }), { 'pawl.io/site': 'lga.1' })
})

t.test('an address has one spelling, and no other form is taken', async (t) => {
  for (const text of [
    '',
    '1',
    '1.2.3',
    '010.0.0.1',
    '0x7f.0.0.1',
    '1.2.3.4.5',
    'fe80::1%eth0',
    '1.2.3.4/33',
    '1.2.3.4/',
    '1.2.3.4/-1',
    '1.2.3.4/8/8',
    '2001:db8::/129',
    'x',
    '1.2.3.4/24',
  ]) {
    t.throws(() => parseAddressRange(text), { code: 'invalid' }, text)
  }
  t.throws(() => parseAddressRange('192.0.2.1/24'), /host bits/)
  t.same(parseAddressRange('192.0.2.1'), { address: '192.0.2.1', prefixLength: 32 })
  t.same(parseAddressRange('2001:DB8:0:0::1'), { address: '2001:db8::1', prefixLength: 128 })
  t.same(parseAddressRange('::ffff:192.0.2.1'), { address: '192.0.2.1', prefixLength: 32 })
  t.equal(canonicalAddress('::ffff:c000:201'), '192.0.2.1')
  t.ok(isSingle(parseAddressRange('2001:db8::1')))
  t.notOk(isSingle(parseAddressRange('2001:db8::/64')))
  t.ok(contains(parseAddressRange('192.0.2.0/24'), '::ffff:192.0.2.9'))
  t.notOk(contains(parseAddressRange('192.0.2.0/24'), '2001:db8::1'))
  t.equal(countingUnit('2001:db8:0:0:1:2:3:4'), '2001:db8::/64')
  t.equal(countingUnit('192.0.2.9'), '192.0.2.9')
  t.equal(countingUnit('nonsense'), 'no address')
  t.notOk(contains(parseAddressRange('0.0.0.0/0'), 'nonsense'))
  t.same(['::ffff:192.0.2.9', 'nonsense', undefined].map(sourceAddress), ['192.0.2.9', 'unknown', 'unknown'])
})

t.test('a node is not registered with an address that tells no machine', async (t) => {
  const bad = [
    'fe80::1',
    'fe80::/10',
    'fe80::/64',
    'ff02::1',
    'ff00::/8',
    '::',
    '0.0.0.0',
    '224.0.0.1',
    'fe80::1%eth0',
  ]
  for (const text of bad) t.throws(() => parseNodeAddress(text), { code: 'invalid' }, text)
  t.throws(() => parseNodeAddress('FE80::1'), {
    message: 'address "FE80::1" is link-local: it means nothing beyond its own link',
  })
  const good = [
    '2001:db8::1',
    '2001:db8::/64',
    'fd00::1',
    'fec0::1',
    '::1',
    '127.0.0.1',
    '192.0.2.0/24',
    '::/0',
    '0.0.0.0/0',
    '169.254.0.1',
  ]
  for (const text of good) t.same(parseNodeAddress(text), parseAddressRange(text), text)
})

t.test('facts are bounded printable ASCII, or none is taken', async (t) => {
  t.match(parseFacts({ serial: 'a\u0000' }), { bad: { name: 'serial' } })
  t.match(parseFacts({ uuid: 5 }), { bad: { name: 'uuid' } })
  t.match(parseFacts({ public_ssh_host_key: 'x'.repeat(1025) }), { bad: { name: 'public_ssh_host_key' } })
  t.same(parseFacts({ mac: '52-54-00-12-34-AB', other: 'ignored', serial: '', product: ' KVM ' }), {
    facts: { mac: '52:54:00:12:34:ab', product: 'KVM' },
  })
})

t.test('one machine is told from two by the strongest fact that both tell', async (t) => {
  const a = { uuid: '11111111-2222-3333-4444-555555555555', serial: 'A', mac: '52:54:00:00:00:01' }
  const b = '21111111-2222-3333-4444-555555555555'
  const table: [object, boolean][] = [
    [a, true],
    [{ ...a, mac: '52:54:00:00:00:02' }, true],
    [{ ...a, uuid: b }, false],
    [{ serial: 'A', mac: '52:54:00:00:00:02' }, true],
    [{ serial: 'B', mac: a.mac }, false],
    [{ mac: a.mac }, true],
    [{ mac: '52:54:00:00:00:02' }, false],
    [{}, true],
  ]
  for (const [other, same] of table) t.equal(sameMachine(a, other), same, JSON.stringify(other))
})

t.test(
  'only iPXE from 2.0.0 on checks digests, and under UEFI: undionly.kpxe 2.0.0 has no sha256sum',
  async (t) => {
    const platform = 'efi'
    for (const version of [undefined, '', '1.21.1+git20250501', '1.0.0', 'x', '2'])
      t.equal(
        canVerifyDigests(version === undefined ? { platform } : { version, platform }),
        false,
        String(version),
      )
    for (const version of ['2.0.0', '2.0.0+dfsg-5', '10.1']) {
      t.equal(canVerifyDigests({ version, platform }), true, version)
      t.equal(canVerifyDigests({ version, platform: 'pcbios' }), false, `${version} under BIOS`)
      t.equal(canVerifyDigests({ version }), false, `${version}, who does not say where`)
    }
  },
)

t.test('a token is its id and a secret of 192 bits; only its hash is compared', async (t) => {
  t.throws(() => tokenFromRandom(new Uint8Array(32)))
  const token = tokenFromRandom(new Uint8Array(33).fill(200))
  const presented = parseToken(token.text)
  t.equal(token.text.length, 44)
  t.equal(presented?.id, token.id)
  t.ok(presented && hashesEqual(hashSecret(presented.secret), token.hash))
  t.notOk(hashesEqual(hashSecret('x'), token.hash))
  for (const text of [
    '',
    'a',
    token.text.slice(1),
    `${token.text}a`,
    token.text.replace(/.$/, '+'),
    token.text.replace(/.$/, '\n'),
  ]) {
    t.equal(parseToken(text), undefined, JSON.stringify(text))
  }
  for (const key of ['', 'a'.repeat(21), 'a'.repeat(65), `${'a'.repeat(21)}=`, `${'a'.repeat(22)}\n`])
    t.equal(parseIdempotencyKey(key), undefined)
  for (const key of ['a'.repeat(22), 'a'.repeat(64)]) t.equal(parseIdempotencyKey(key), key)
})

t.test('one value has one JSON text, whatever the order of its members', async (t) => {
  t.equal(
    canonicalJson({ b: 1, a: [true, null, 'x\n'], c: undefined, A: {} }),
    '{"A":{},"a":[true,null,"x\\n"],"b":1}',
  )
  for (const value of [1.5, Number.NaN, 2 ** 53, undefined, () => 1, 1n])
    t.throws(() => canonicalJson(value), TypeError)
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.integer(), fc.boolean())), (object) => {
      const shuffled = Object.fromEntries(Object.entries(object).reverse())
      return (
        canonicalJson(shuffled) === canonicalJson(object) &&
        t.same(JSON.parse(canonicalJson(object)), { ...object })
      )
    }),
    { numRuns: 50 },
  )
})

t.test('a value in a message is quoted, printable and short', async (t) => {
  t.equal(quote('a"b'), '"a\\"b"')
  t.equal(quote('\u001b[31mü'), '"\\u001b[31m\\u00fc"')
  t.equal(quote('x'.repeat(100)).length, 66)
})
