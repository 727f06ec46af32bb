import fc from 'fast-check'
import t from 'tap'
import { negotiate } from '../../src/tftp/negotiate.ts'
import {
  ackedBlock,
  encodePacket,
  isError,
  isOfTransfer,
  type Option,
  parsePacket,
} from '../../src/tftp/packet.ts'

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1')
const rrq = '\0\x01'
const fault = (text: string): string | undefined => {
  const parsed = parsePacket(bytes(text))
  return parsed.kind === 'malformed' ? parsed.fault : undefined
}

t.test('what is not a packet is refused in words, and never throws', async (t) => {
  const cases: [packet: string, fault: string][] = [
    ['', '0 bytes are no TFTP packet'],
    ['\0', '1 bytes are no TFTP packet'],
    ['\0\x01', '2 bytes are no TFTP packet'],
    ['\0\x04\0', '3 bytes are no TFTP packet'],
    ['\0\0a\0', 'operation 0 is not one of TFTP'],
    ['\0\x07a\0', 'operation 7 is not one of TFTP'],
    ['\x01\x01a\0octet\0', 'operation 257 is not one of TFTP'],
    ['\0\x04\0\x01\0', 'an ACK of 5 bytes'],
    [`${rrq}ab`, 'a text without its NUL'],
    [`${rrq}a\0octet`, 'a text without its NUL'],
    [`${rrq}a\0`, 'a request without a mode'],
    [`${rrq}\0octet\0`, 'a request without a file name'],
    [`${rrq}a\0\0`, 'a request with an empty mode'],
    [`${rrq}${'a'.repeat(256)}\0octet\0`, 'a file name of 256 bytes, over 255'],
    [`${rrq}${'a'.repeat(600)}\0octet\0`, 'a request of 609 bytes, over 512'],
    [`${rrq}a\0octet\0blksize\0`, 'an option without a value'],
    [`${rrq}a\0octet\0\x001\0`, 'an option without a name'],
    [`${rrq}a\0octet\0\0`, 'an option without a value'],
    [`${rrq}a\xff\0octet\0`, 'a byte that is not printable ASCII'],
    [`${rrq}a\n\0octet\0`, 'a byte that is not printable ASCII'],
    [`${rrq}a\0octet\0blksize\x001\xb2\0`, 'a byte that is not printable ASCII'],
    ['\0\x05\0\x01', 'a text without its NUL'],
    ['\0\x05\0\x01a\0b\0', 'an ERROR with more than a message'],
    ['\0\x06blksize\0', 'an option without a value'],
    [`\0\x06${'a'.repeat(600)}\0b\0`, 'a text that is too long'],
    [`\0\x06${'a\0'.repeat(1000)}`, 'texts that are too long'],
  ]
  for (const [packet, expected] of cases)
    t.equal(fault(packet), expected, JSON.stringify(packet.slice(0, 40)))
})

t.test('packets of each kind are read as the RFCs write them', async (t) => {
  t.same(parsePacket(bytes(`${rrq}ipxe.efi\0octet\0tsize\x000\0BLKSIZE\x001468\0`)), {
    kind: 'read',
    name: 'ipxe.efi',
    mode: 'octet',
    options: [
      ['tsize', '0'],
      ['BLKSIZE', '1468'],
    ],
  })
  t.same(parsePacket(bytes('\0\x02a b\0NetASCII\0')), {
    kind: 'write',
    name: 'a b',
    mode: 'NetASCII',
    options: [],
  })
  t.same(parsePacket(bytes('\0\x04\xff\xfe')), { kind: 'ack', block: 65534 })
  t.same(parsePacket(bytes('\0\x03\0\x02')), { kind: 'data', block: 2, payload: Buffer.alloc(0) })
  t.same(parsePacket(bytes('\0\x05\0\x08aborted\0')), { kind: 'error', code: 8, message: 'aborted' })
  t.same(parsePacket(bytes('\0\x06blksize\x00512\0')), { kind: 'oack', options: [['blksize', '512']] })
})

t.test('what parses is written back as the same bytes, and what is written parses', async () => {
  const text = fc.string({
    unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
    maxLength: 40,
  })
  const word = text.filter((value) => value !== '')
  const options = fc.array(fc.tuple(word, text), { maxLength: 4 })
  const number = fc.integer({ min: 0, max: 65_535 })
  const packet = fc.oneof(
    fc.record({ kind: fc.constantFrom('read' as const, 'write' as const), name: word, mode: word, options }),
    fc.record({ kind: fc.constant('ack' as const), block: number }),
    fc.record({ kind: fc.constant('error' as const), code: number, message: text }),
    fc.record({
      kind: fc.constant('oack' as const),
      options: fc.array(fc.tuple(word, text), { minLength: 1, maxLength: 4 }),
    }),
    fc.record({
      kind: fc.constant('data' as const),
      block: number,
      payload: fc.uint8Array({ maxLength: 600 }),
    }),
  )
  fc.assert(
    fc.property(packet, (made) => {
      const written = encodePacket(made)
      const read = parsePacket(written)
      if (read.kind === 'malformed') throw new Error(read.fault)
      return encodePacket(read).equals(written) && read.kind === made.kind
    }),
    { numRuns: 2000 },
  )
  // Any bytes at all, and packets with some of their bytes changed, cut off or added.
  const near = fc
    .tuple(
      packet,
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }),
      fc.nat(60),
      fc.uint8Array({ maxLength: 3 }),
    )
    .map(([made, changes, cut, more]) => {
      const written = Buffer.concat([encodePacket(made), more])
      for (const [at, value] of changes) written[at % written.length] = value
      return written.subarray(0, Math.max(0, written.length - (cut < 40 ? 0 : cut)))
    })
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 700 }), near), (any) => {
      const read = parsePacket(any)
      isError(any)
      isOfTransfer(any)
      if (ackedBlock(any) !== (read.kind === 'ack' ? read.block : -1)) throw new Error('read in two ways')
      return read.kind === 'malformed' ? read.fault.length < 80 : encodePacket(read).equals(Buffer.from(any))
    }),
    { numRuns: 20_000 },
  )
})

t.test('an ERROR is known as one however badly it is made', async (t) => {
  t.ok(isError(bytes('\0\x05')))
  t.ok(isError(bytes('\0\x05\0\x08no NUL')))
  t.notOk(isError(bytes('\x05')))
  t.ok(isOfTransfer(bytes('\0\x04')))
  t.notOk(isOfTransfer(bytes('\0\x05\0\0\0')), 'an ERROR is never answered')
  t.notOk(isOfTransfer(bytes('\0')))
})

const limits = { maxBlockSize: 65_464, maxWindowSize: 64 }
const terms = (options: readonly Option[], size = 1000, some = limits): unknown =>
  negotiate(options, size, some)

t.test('options that break their RFC are refused with the rule', async (t) => {
  const cases: [options: Option[], refused: string][] = [
    [[['blksize', '4']], 'block size 4 is below 8 (RFC 2348)'],
    [[['blksize', '0']], 'block size 0 is below 8 (RFC 2348)'],
    [[['BlkSize', '-1']], 'block size is not a number (RFC 2348)'],
    [[['blksize', '1e3']], 'block size is not a number (RFC 2348)'],
    [[['blksize', '']], 'block size is not a number (RFC 2348)'],
    [[['windowsize', '0']], 'window size 0 is below 1 (RFC 7440)'],
    [[['windowsize', 'x']], 'window size is not a number (RFC 7440)'],
    [
      [
        ['blksize', '512'],
        ['BLKSIZE', '1024'],
      ],
      'option blksize is given twice (RFC 2347)',
    ],
    [
      [
        ['foo', '1'],
        ['Foo', '2'],
      ],
      'option foo is given twice (RFC 2347)',
    ],
  ]
  for (const [options, refused] of cases) t.same(terms(options), { refused }, JSON.stringify(options))
})

t.test('options become what their RFC says; unknown ones are left out', async (t) => {
  const plain = { blockSize: 512, windowSize: 1, timeoutSeconds: undefined, granted: [] }
  const cases: [options: Option[], terms: object][] = [
    [[], plain],
    [
      [
        ['multicast', ''],
        ['rollover', '0'],
        ['x', 'y'],
      ],
      plain,
    ],
    [[['BLKSIZE', '1468']], { ...plain, blockSize: 1468, granted: [['BLKSIZE', '1468']] }],
    [[['blksize', '8']], { ...plain, blockSize: 8, granted: [['blksize', '8']] }],
    [[['blksize', '65464']], { ...plain, blockSize: 65_464, granted: [['blksize', '65464']] }],
    [[['blksize', '99999999999999999999']], { ...plain, blockSize: 65_464, granted: [['blksize', '65464']] }],
    [[['windowsize', '16']], { ...plain, windowSize: 16, granted: [['windowsize', '16']] }],
    [[['windowsize', '65536']], { ...plain, windowSize: 64, granted: [['windowsize', '64']] }],
    [[['tsize', '0']], { ...plain, granted: [['tsize', '1000']] }],
    [[['tsize', 'x']], { ...plain, granted: [['tsize', '1000']] }],
    [[['timeout', '3']], { ...plain, timeoutSeconds: 3, granted: [['timeout', '3']] }],
    [[['timeout', '0']], plain],
    [[['timeout', '256']], plain],
    [
      [
        ['tsize', '0'],
        ['x', '1'],
        ['windowsize', '4'],
        ['blksize', '1024'],
      ],
      {
        ...plain,
        blockSize: 1024,
        windowSize: 4,
        granted: [
          ['tsize', '1000'],
          ['windowsize', '4'],
          ['blksize', '1024'],
        ],
      },
    ],
  ]
  for (const [options, expected] of cases) t.same(terms(options), expected, JSON.stringify(options))
  t.same(terms([['tsize', '0']], 0), plain, 'curl refuses an OACK with tsize 0')
  t.match(terms([['blksize', '1469']], 1000, { ...limits, maxBlockSize: 1468 }), { blockSize: 1468 })
})
