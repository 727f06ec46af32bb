import fc from 'fast-check'
import t from 'tap'
import { findHello, maxHelloBytes, offersTls13, parseClientHello } from '../../src/handshake/client-hello.ts'
import { clientIds, knownClients, likelyClient } from '../../src/handshake/known-clients.ts'
import {
  groupName,
  isGrease,
  isWeak,
  signatureName,
  suiteName,
  suiteOf,
  versionName,
} from '../../src/handshake/suites.ts'

const hellos = knownClients()
const [ipxe] = hellos.filter(({ id }) => id === 'ipxe-2025')
if (ipxe === undefined) throw new Error('no hello of iPXE')

/** The message of a first record, header and all. */
const messageOf = (bytes: Buffer): Buffer => bytes.subarray(5)
const record = (content: Buffer): Buffer =>
  Buffer.concat([Buffer.from([22, 3, 1, content.length >> 8, content.length & 255]), content])

t.test('what each known client offers', (t) => {
  const table: Record<
    string,
    [versions: string, kinds: string, name: string | undefined, fragment?: number]
  > = {
    'ipxe-2019': ['TLS 1.2', 'RSA', '10.0.2.2', 4096],
    'ipxe-2022': ['TLS 1.2', 'RSA', '10.0.2.2', 4096],
    'ipxe-2023': ['TLS 1.2', 'DHE-RSA RSA', '10.0.2.2', 4096],
    'ipxe-2024': ['TLS 1.2', 'ECDHE-RSA DHE-RSA RSA', '10.0.2.2', 4096],
    'ipxe-2025': ['TLS 1.2', 'ECDHE-RSA DHE-RSA RSA', '10.0.2.2', 4096],
    'ipxe-2026': ['TLS 1.2', 'ECDHE-ECDSA ECDHE-RSA DHE-RSA RSA', '10.0.2.2', 4096],
    'edk2-2022': ['TLS 1.2', 'DHE-RSA RSA', undefined],
    'edk2-2025': ['TLS 1.2', 'DHE-RSA RSA', '10.0.2.2'],
    'edk2-2026': ['TLS 1.2', 'ECDHE-ECDSA ECDHE-RSA DHE-RSA RSA', '10.0.2.2'],
    agent: ['TLS 1.3', 'TLS 1.3', 'boot.example.test'],
    curl: [
      'TLS 1.3, TLS 1.2, TLS 1.1, TLS 1.0',
      'TLS 1.3 ECDHE-ECDSA ECDHE-RSA DHE-RSA RSA',
      'boot.example.test',
    ],
    openssl: [
      'TLS 1.3, TLS 1.2, TLS 1.1, TLS 1.0',
      'TLS 1.3 ECDHE-ECDSA ECDHE-RSA DHE-RSA RSA',
      'boot.example.test',
    ],
    node: ['TLS 1.3, TLS 1.2', 'TLS 1.3 ECDHE-RSA ECDHE-ECDSA DHE-RSA RSA', 'boot.example.test'],
    wget: ['TLS 1.3, TLS 1.2, TLS 1.1, TLS 1.0', 'TLS 1.3 ECDHE-ECDSA ECDHE-RSA RSA DHE-RSA', undefined],
    python: ['TLS 1.3, TLS 1.2', 'TLS 1.3 ECDHE-ECDSA ECDHE-RSA DHE-RSA', 'boot.example.test'],
    go: ['TLS 1.3, TLS 1.2', 'ECDHE-ECDSA ECDHE-RSA RSA TLS 1.3', 'boot.example.test'],
  }
  t.same(Object.keys(table), [...clientIds], 'every client is in the table')
  for (const { id, hello } of hellos) {
    const kinds = new Set(hello.suites.flatMap((code) => suiteOf(code)?.keyExchange ?? []))
    const found = [hello.versions.map(versionName).join(', '), [...kinds].join(' '), hello.serverName]
    t.same(
      [...found, ...(hello.maxFragmentLength === undefined ? [] : [hello.maxFragmentLength])],
      table[id],
      id,
    )
  }
  t.end()
})

t.test(
  'each is known again, whatever name it asks for, and another build of it is told to be like it',
  (t) => {
    for (const { id, hello, origin } of hellos) {
      t.match(likelyClient(hello), { id, match: 'same', origin }, id)
      const elsewhere = {
        ...hello,
        serverName: 'other.example.test',
        extensions: [...hello.extensions, 16].slice(0, -1),
      }
      t.match(likelyClient(elsewhere), { id, match: 'same' }, `${id} elsewhere`)
    }
    const cut = { ...ipxe.hello, suites: ipxe.hello.suites.slice(0, -2) }
    t.match(likelyClient(cut), { id: 'ipxe-2025', match: 'like' })
    t.match(likelyClient({ ...ipxe.hello, suites: [0x0a0a, 0x1301], groups: [0x2a2a, 29] }), {
      name: 'a browser',
      origin: 'rule',
    })
    t.equal(
      likelyClient({
        ...ipxe.hello,
        suites: [1, 2, 3],
        extensions: [99],
        groups: [],
        signatureAlgorithms: [],
      }),
      undefined,
    )
    t.end()
  },
)

t.test('a hello of thousands of suites, which nobody sends, is compared with none', (t) => {
  const suites = [0x0a0a, ...Array.from({ length: 7000 }, (_, i) => i + 0x4000)]
  t.equal(likelyClient({ ...ipxe.hello, suites }), undefined, 'nor is it looked at for what browsers do')
  t.end()
})

t.test('every known client is captured, or says that it is not', (t) => {
  const reconstructed = hellos.filter(({ origin }) => origin === 'reconstructed').map(({ id }) => id)
  t.same(reconstructed, ['ipxe-2019', 'ipxe-2022', 'ipxe-2023', 'ipxe-2024'])
  t.end()
})

t.test('a hello is found whole however it is cut, and never before it is whole', (t) => {
  for (const { id, bytes } of hellos) {
    const whole = findHello(bytes)
    if (whole.state !== 'hello') throw new Error(id)
    for (let size = 0; size < bytes.length; size += 1) {
      const part = findHello(bytes.subarray(0, size))
      if (part.state !== 'more' || part.need <= size || part.need > bytes.length)
        t.fail(`${id} cut at ${size}: ${part.state}`)
    }
    const message = messageOf(bytes)
    for (const cut of [1, 2, 3, 4, 5, 100, message.length - 1]) {
      const two = Buffer.concat([record(message.subarray(0, cut)), record(message.subarray(cut))])
      t.same(findHello(two), whole, `${id} in two records, cut at ${cut}`)
    }
    t.same(findHello(Buffer.concat([bytes, Buffer.from('more')])), whole, `${id} and what follows`)
  }
  t.end()
})

t.test('what is no hello is handed on at once', (t) => {
  const table: [string, Buffer][] = [
    ['plain HTTP', Buffer.from('GET / HTTP/1.1\r\n')],
    ['one wrong byte', Buffer.from([0x47])],
    ['SSL 2', Buffer.from('802e0100020015', 'hex')],
    ['an alert', Buffer.from('15030100020228', 'hex')],
    ['another handshake message', Buffer.from('160301000402000000', 'hex')],
    ['a record of version 4', Buffer.from('160401', 'hex')],
    ['an empty record', Buffer.from('1603010000', 'hex')],
    ['a record that is too long', Buffer.from('160301ffff01', 'hex')],
    ['a hello of 16 MB', Buffer.from('160301000401ffffff', 'hex')],
    [
      'a hello one byte over the limit',
      Buffer.from(
        `1603010004 01 ${(maxHelloBytes - 3).toString(16).padStart(6, '0')}`.replaceAll(' ', ''),
        'hex',
      ),
    ],
    [
      '65 records of one byte',
      Buffer.concat(Array.from({ length: 65 }, (_, i) => record(messageOf(ipxe.bytes).subarray(i, i + 1)))),
    ],
  ]
  for (const [what, bytes] of table) t.same(findHello(bytes), { state: 'other' }, what)
  t.end()
})

t.test('a hello with a length that does not fit, or with something twice, is not read', (t) => {
  const found = findHello(ipxe.bytes)
  if (found.state !== 'hello') throw new Error('no hello')
  const { message } = found
  t.not(parseClientHello(message), undefined)
  for (let size = 0; size < message.length; size += 1) {
    if (parseClientHello(message.subarray(0, size)) !== undefined && size !== extensionsAt(message))
      t.fail(`cut at ${size}`)
  }
  t.equal(parseClientHello(Buffer.concat([message, Buffer.from([0])])), undefined, 'one byte more')
  const twice = Buffer.concat([message, Buffer.from('0023000000230000', 'hex')])
  twice.writeUInt16BE(twice.readUInt16BE(extensionsAt(message)) + 8, extensionsAt(message))
  t.equal(parseClientHello(twice), undefined, 'the same extension twice')
  t.end()
})

t.test('no bytes make the reader throw', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => void parseClientHello(Buffer.from(bytes))),
  )
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => void findHello(Buffer.from(bytes))))
  const known = fc.constantFrom(...hellos)
  fc.assert(
    fc.property(known, fc.nat(), fc.integer({ min: 0, max: 255 }), ({ bytes }, place, value) => {
      const changed = Buffer.from(bytes)
      changed[5 + (place % (changed.length - 5))] = value
      const found = findHello(changed)
      const hello = found.state === 'hello' ? parseClientHello(found.message) : undefined
      if (hello !== undefined) likelyClient(hello)
    }),
    { numRuns: 2000 },
  )
  t.end()
})

t.test('a name or protocol that nobody could have is left out', (t) => {
  for (const name of ['a b', 'x\n', '<script>', 'ä', '', 'a'.repeat(254)]) {
    const content = Buffer.from(name, 'latin1')
    const list = Buffer.concat([Buffer.from([0, content.length >> 8, content.length & 255]), content])
    const data = Buffer.concat([Buffer.from([list.length >> 8, list.length & 255]), list])
    const extension = Buffer.concat([Buffer.from([0, 0, data.length >> 8, data.length & 255]), data])
    const fixed = Buffer.concat([
      Buffer.from('0303', 'hex'),
      Buffer.alloc(32),
      Buffer.from('000002009c0100', 'hex'),
    ])
    const hello = parseClientHello(
      Buffer.concat([fixed, Buffer.from([extension.length >> 8, extension.length & 255]), extension]),
    )
    t.match(hello, { suites: [0x9c], versions: [0x0303] }, JSON.stringify(name.slice(0, 9)))
    t.equal(hello?.serverName, undefined)
  }
  t.end()
})

t.test('names of numbers', (t) => {
  t.equal(suiteName(0xc02f), 'ECDHE-RSA-AES128-GCM-SHA256')
  t.equal(suiteName(0x00ff), 'renegotiation')
  t.equal(suiteName(0xfefe), '0xfefe')
  t.equal(groupName(0x1d), 'X25519')
  t.equal(signatureName(0x0401), 'RSA SHA-256')
  t.equal(signatureName(0x0503), 'ECDSA SHA-384')
  t.equal(signatureName(0x0804), 'RSA-PSS SHA-256')
  t.same([0x0a0a, 0xfafa, 0x0a1a, 0x1301].map(isGrease), [true, true, false, false])
  const rc4 = suiteOf(5)
  t.ok(rc4 !== undefined && isWeak(rc4))
  const aes = suiteOf(0x2f)
  t.ok(aes !== undefined && !isWeak(aes))
  t.end()
})

/** Where the length of the extensions is. */
function extensionsAt(message: Buffer): number {
  const session = 34 + 1 + (message[34] ?? 0)
  const suites = session + 2 + message.readUInt16BE(session)
  return suites + 1 + (message[suites] ?? 0)
}

t.test('whether TLS 1.3 is offered is found without reading the rest, and alike', (t) => {
  const offers = (message: Buffer): boolean => parseClientHello(message)?.versions.includes(0x0304) === true
  let both = 0
  for (const { id, bytes } of hellos) {
    const found = findHello(bytes)
    if (found.state !== 'hello') throw new Error(id)
    t.equal(offersTls13(found.message), offers(found.message), id)
    if (offersTls13(found.message)) both += 1
    for (let length = 0; length < found.message.length; length += 1) {
      const cut = found.message.subarray(0, length)
      t.type(offersTls13(cut), 'boolean')
      // Whatever the strict reader takes is seen alike; what it refuses OpenSSL refuses too.
      if (parseClientHello(cut) !== undefined)
        t.equal(offersTls13(cut), offers(cut), `${id}, ${length} bytes`)
    }
  }
  t.ok(both > 3 && both < hellos.length)
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      offersTls13(Buffer.from(bytes))
    }),
  )
  t.end()
})
