import fc from 'fast-check'
import t from 'tap'
import { looksProxied, readProxyHeader } from '../../src/handshake/proxy-header.ts'

const signature = '0d0a0d0a000d0a515549540a'
const v2 = (rest: string): Buffer => Buffer.from(`${signature}${rest}`.replaceAll(' ', ''), 'hex')
const v1 = (line: string): Buffer => Buffer.from(line, 'latin1')
const tcp4 = '21 11 000c c0000201 c6336401 dc04 01bb'
const ip6 = '20010db8000000000000000000000001'
const crc = (rest: string, sum: string): Buffer => v2(`${rest} 030004 ${sum}`)

t.test('headers that are right', (t) => {
  const table: [string, Buffer, { address: string; port: number } | undefined][] = [
    [
      'v1, IPv4',
      v1('PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n'),
      { address: '192.0.2.1', port: 56_324 },
    ],
    ['v1, IPv6', v1('PROXY TCP6 2001:DB8:0::1 2001:db8::2 1 65535\r\n'), { address: '2001:db8::1', port: 1 }],
    ['v1, IPv4 in IPv6', v1('PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n'), { address: '192.0.2.1', port: 1 }],
    ['v1, unknown', v1('PROXY UNKNOWN\r\n'), undefined],
    ['v1, unknown with addresses', v1('PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n'), undefined],
    ['v1, the longest line', v1(`PROXY UNKNOWN ${'f'.repeat(91)}\r\n`), undefined],
    ['v2, IPv4', v2(tcp4), { address: '192.0.2.1', port: 56_324 }],
    ['v2, IPv6', v2(`21 21 0024 ${ip6} ${ip6} 0001 01bb`), { address: '2001:db8::1', port: 1 }],
    [
      'v2, IPv4 in IPv6',
      v2(`21 21 0024 00000000000000000000ffffc0000201 ${ip6} 0001 01bb`),
      { address: '192.0.2.1', port: 1 },
    ],
    ['v2, LOCAL', v2('20 00 0000'), undefined],
    ['v2, LOCAL with addresses, which mean nothing', v2('20 11 000c c0000201 c6336401 dc04 01bb'), undefined],
    ['v2, an unknown family', v2('21 00 0000'), undefined],
    [
      'v2, with more told',
      v2('21 11 0014 c0000201 c6336401 dc04 01bb 040001 00 ea0001 01'),
      { address: '192.0.2.1', port: 56_324 },
    ],
    [
      'v2, with a checksum',
      crc('21 11 0013 c0000201 c6336401 dc04 01bb', '737ee919'),
      { address: '192.0.2.1', port: 56_324 },
    ],
  ]
  for (const [what, header, source] of table) {
    const wanted = { state: 'header', length: header.length, source }
    t.same(readProxyHeader(header), wanted, what)
    t.same(
      readProxyHeader(Buffer.concat([header, Buffer.from('\x16\x03\x01')])),
      wanted,
      `${what}, and the hello behind it`,
    )
    t.ok(looksProxied(header))
    for (let size = 0; size < header.length; size += 1) {
      const part = readProxyHeader(header.subarray(0, size))
      if (part.state !== 'more' || part.need <= size || part.need > header.length)
        t.fail(`${what} cut at ${size}: ${part.state}`)
    }
  }
  t.end()
})

t.test('headers that are wrong', (t) => {
  const table: [string, Buffer, RegExp][] = [
    ['a hello', Buffer.from('1603010200', 'hex'), /does not begin/],
    ['HTTP', v1('POST / HTTP/1.1\r\n'), /does not begin/],
    ['lower case', v1('proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n'), /does not begin/],
    ['another family', v1('PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n'), /neither TCP4 nor TCP6/],
    ['no family', v1('PROXY \r\n'), /neither/],
    ['IPv6 as IPv4', v1('PROXY TCP4 ::1 ::1 1 2\r\n'), /addresses/],
    ['IPv4 as IPv6', v1('PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n'), /addresses/],
    ['a zone', v1('PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n'), /addresses/],
    ['a leading zero', v1('PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n'), /addresses/],
    ['three numbers', v1('PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n'), /addresses/],
    ['no destination', v1('PROXY TCP4 192.0.2.1\r\n'), /addresses/],
    ['a bad destination', v1('PROXY TCP4 192.0.2.1 nobody 1 2\r\n'), /addresses/],
    ['two spaces', v1('PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n'), /addresses/],
    ['a port of 65536', v1('PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n'), /addresses/],
    ['a port with a zero before it', v1('PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n'), /addresses/],
    ['a negative port', v1('PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n'), /addresses/],
    ['a word more', v1('PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n'), /addresses/],
    ['a line feed alone', v1(`PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n${' '.repeat(80)}`), /too long/],
    ['a long line', v1(`PROXY UNKNOWN ${'f'.repeat(92)}\r\n`), /too long/],
    ['version 1 in binary', v2('11 11 000c c0000201 c6336401 dc04 01bb'), /version/],
    ['version 3', v2('31 11 000c c0000201 c6336401 dc04 01bb'), /version/],
    ['an unknown command', v2('22 11 000c c0000201 c6336401 dc04 01bb'), /command/],
    ['UDP', v2('21 12 000c c0000201 c6336401 dc04 01bb'), /not about a TCP/],
    ['a Unix socket', v2(`21 31 00d8 ${'00'.repeat(216)}`), /not about a TCP/],
    ['too short for IPv4', v2('21 11 000b c0000201 c6336401 dc04 01'), /shorter/],
    ['too short for IPv6', v2('21 21 000c c0000201 c6336401 dc04 01bb'), /shorter/],
    ['longer than it may be', v2('21 11 ffff'), /longer than 2048/],
    ['half a value behind the addresses', v2('21 11 000e c0000201 c6336401 dc04 01bb 0400'), /follows/],
    ['a value longer than the header', v2('21 11 0010 c0000201 c6336401 dc04 01bb 04 0002 00'), /follows/],
    ['a wrong checksum', crc('21 11 0013 c0000201 c6336401 dc04 01bb', '00000000'), /follows/],
    ['a checksum of two bytes', v2('21 11 0011 c0000201 c6336401 dc04 01bb 03 0002 0000'), /follows/],
  ]
  for (const [what, header, reason] of table) t.match(readProxyHeader(header), { state: 'bad', reason }, what)
  t.end()
})

t.test('no bytes make the reader throw or wait for more than its limit', (t) => {
  const starts = fc.constantFrom(v2(''), v2('21'), v2(tcp4), v1('PROXY '), v1('PROXY TCP4 '), Buffer.alloc(0))
  fc.assert(
    fc.property(starts, fc.uint8Array({ maxLength: 300 }), (start, bytes) => {
      const found = readProxyHeader(Buffer.concat([start, bytes]))
      return found.state !== 'more' || found.need <= 2048
    }),
    { numRuns: 2000 },
  )
  t.end()
})
