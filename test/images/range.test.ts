import fc from 'fast-check'
import t from 'tap'
import type { Digest } from '../../src/domain/digest.ts'
import { planAnswer } from '../../src/images/conditional.ts'
import { parseRange } from '../../src/images/range.ts'

t.test('reads a Range field of a representation of 1000 bytes', async (t) => {
  const huge = '9'.repeat(400)
  const table: [string | undefined, ReturnType<typeof parseRange>][] = [
    // Not satisfiable
    ['bytes=1000-', 'unsatisfiable'],
    ['bytes=1000-1000', 'unsatisfiable'],
    ['bytes=-0', 'unsatisfiable'],
    [`bytes=${huge}-`, 'unsatisfiable'],
    // Ignored: malformed, another unit, more than one range
    [undefined, 'whole'],
    ['', 'whole'],
    ['bytes', 'whole'],
    ['bytes=', 'whole'],
    ['bytes=-', 'whole'],
    ['bytes=5-4', 'whole'],
    ['bytes=9007199254740993-9007199254740992', 'whole'],
    ['bytes=a-b', 'whole'],
    ['bytes=1-2-3', 'whole'],
    ['bytes=--1', 'whole'],
    ['bytes=+1-2', 'whole'],
    ['bytes=0x1-2', 'whole'],
    ['bytes=1 -2', 'whole'],
    ['bytes =0-1', 'whole'],
    ['bytes=1.5-2', 'whole'],
    ['lines=0-1', 'whole'],
    ['bytes=0-1,5-6', 'whole'],
    ['bytes=0-1, -5', 'whole'],
    ['bytes=0-1, bytes=5-6', 'whole'],
    // Served
    ['bytes=0-', { start: 0, end: 1000 }],
    ['bytes=0-0', { start: 0, end: 1 }],
    ['bytes=0-999', { start: 0, end: 1000 }],
    ['bytes=0-1000', { start: 0, end: 1000 }],
    ['bytes=999-', { start: 999, end: 1000 }],
    ['bytes=500-600', { start: 500, end: 601 }],
    [`bytes=1-${huge}`, { start: 1, end: 1000 }],
    ['bytes=-1', { start: 999, end: 1000 }],
    ['bytes=-1000', { start: 0, end: 1000 }],
    ['bytes=-1001', { start: 0, end: 1000 }],
    [`bytes=-${huge}`, { start: 0, end: 1000 }],
    ['Bytes=1-2', { start: 1, end: 3 }],
    ['bytes=, 1-2 ,', { start: 1, end: 3 }],
    ['bytes=0000000000000000001-2', { start: 1, end: 3 }],
  ]
  for (const [field, expected] of table) t.strictSame(parseRange(field, 1000), expected, String(field))
  for (const field of ['bytes=0-', 'bytes=0-0', 'bytes=-1']) {
    t.equal(parseRange(field, 0), 'unsatisfiable', `${field} of nothing`)
  }
})

t.test('never answers bytes that are not there', async (t) => {
  const anyField = fc.oneof(
    fc.string(),
    fc.string().map((rest) => `bytes=${rest}`),
    fc.stringMatching(/^bytes=\d{0,17}-\d{0,17}(,\d{0,3}-\d{0,3})?$/),
  )
  fc.assert(
    fc.property(anyField, fc.nat({ max: 2 ** 36 }), (field, size) => {
      const range = parseRange(field, size)
      if (typeof range === 'string') return true
      return range.start >= 0 && range.start < range.end && range.end <= size
    }),
  )
  fc.assert(
    fc.property(fc.nat(5000), fc.nat(5000), fc.integer({ min: 1, max: 4000 }), (a, b, size) => {
      const bytes = Array.from({ length: size }, (_, i) => i)
      const range = parseRange(`bytes=${a}-${b}`, size)
      if (typeof range === 'string')
        return range === (b < a ? 'whole' : 'unsatisfiable') && (b < a || a >= size)
      return (
        JSON.stringify(bytes.slice(range.start, range.end)) ===
        JSON.stringify(bytes.filter((i) => i >= a && i <= b))
      )
    }),
  )
  t.pass()
})

t.test('decides status, range and body', async (t) => {
  const digest = 'ab'.repeat(32) as Digest
  const artifact = { digest, size: 1000, mediaType: 'application/octet-stream' }
  const ours = `"sha256-${digest}"`
  const whole = { status: 200, body: { start: 0, end: 1000 } }
  const part = { status: 206, body: { start: 1, end: 3 } }
  const none = (status: number) => ({ status, body: undefined })
  const table: [string, Record<string, string>, { status: number; body: unknown }][] = [
    ['GET', { 'if-match': '"other"' }, none(412)],
    ['GET', { 'if-match': `W/${ours}` }, none(412)],
    ['GET', { 'if-none-match': ours }, none(304)],
    ['HEAD', { 'if-none-match': ours }, none(304)],
    ['GET', { 'if-none-match': `W/${ours}` }, none(304)],
    ['GET', { 'if-none-match': `"a", ${ours}` }, none(304)],
    ['GET', { 'if-none-match': '*' }, none(304)],
    ['GET', { 'if-none-match': ours, range: 'bytes=1-2' }, none(304)],
    ['GET', { range: 'bytes=1000-' }, none(416)],
    ['HEAD', {}, none(200)],
    ['HEAD', { range: 'bytes=1-2' }, none(200)],
    ['GET', {}, whole],
    ['GET', { 'if-match': ours }, whole],
    ['GET', { 'if-match': '*' }, whole],
    ['GET', { 'if-none-match': '"other"' }, whole],
    ['GET', { 'if-none-match': digest }, whole],
    ['GET', { 'if-modified-since': 'Sat, 21 Nov 2026 00:00:00 GMT' }, whole],
    ['GET', { range: 'bytes=1-2,4-5' }, whole],
    ['GET', { range: 'bytes=1-2', 'if-range': '"other"' }, whole],
    ['GET', { range: 'bytes=1-2', 'if-range': `W/${ours}` }, whole],
    ['GET', { range: 'bytes=1-2', 'if-range': 'Sat, 21 Nov 2026 00:00:00 GMT' }, whole],
    ['GET', { range: 'bytes=1000-', 'if-range': '"other"' }, whole],
    ['GET', { range: 'bytes=1-2', 'if-range': ours }, part],
    ['GET', { range: 'bytes=1-2', 'if-none-match': '"other"' }, part],
    ['GET', { range: 'bytes=1-2' }, part],
    ['GET', { range: 'bytes=0-' }, { status: 206, body: { start: 0, end: 1000 } }],
  ]
  for (const [method, headers, { status, body }] of table) {
    const plan = planAnswer({ method, headers }, artifact)
    t.strictSame(
      { status: plan.status, body: plan.body },
      { status, body },
      `${method} ${JSON.stringify(headers)}`,
    )
    t.equal(plan.headers.ETag, ours)
    t.equal(plan.headers['Accept-Ranges'], 'bytes')
  }
  t.strictSame(planAnswer({ method: 'HEAD', headers: {} }, artifact).headers, {
    ETag: ours,
    'Accept-Ranges': 'bytes',
    'Content-Type': 'application/octet-stream',
    'Content-Length': '1000',
    'Repr-Digest': 'sha-256=:q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=:',
  })
  const partial = planAnswer({ method: 'GET', headers: { range: 'bytes=-10' } }, artifact).headers
  t.match(partial, { 'Content-Length': '10', 'Content-Range': 'bytes 990-999/1000' })
  const refused = planAnswer({ method: 'GET', headers: { range: 'bytes=1000-' } }, artifact).headers
  t.match(refused, { 'Content-Length': '0', 'Content-Range': 'bytes */1000' })
})
