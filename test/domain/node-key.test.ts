import t from 'tap'
import { parseNodeKey } from '../../src/domain/node-key.ts'

const field = 2n ** 255n - 19n
/** A point of Ed25519 as it is written: y, little end first, and the sign of x. */
const point = (y: bigint, sign = 0): string => {
  const bytes = Buffer.from((y | (BigInt(sign) << 255n)).toString(16).padStart(64, '0'), 'hex')
  return bytes.reverse().toString('base64url')
}
const edwards = (x: string) => ({ kty: 'OKP', crv: 'Ed25519', x })
// RFC 8037 appendix A.2, RFC 7517 appendix A.1.
const good = edwards('11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo')
const p256 = {
  ...{ kty: 'EC', crv: 'P-256' },
  x: 'MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4',
  y: '4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM',
}

t.test('takes a public key, and only what it is', async (t) => {
  t.same(parseNodeKey(good), good)
  t.same(parseNodeKey({ ...p256, kid: 'x', use: 'sig', x5c: ['x'] }), p256)
})

t.test('refuses what is no key, is more than a public one, or has another spelling', async (t) => {
  const order8 = 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n
  const rows: [string, unknown][] = [
    ['nothing', undefined],
    ['null', null],
    ['text', 'key'],
    ['a list', [p256]],
    ['a private part', { ...p256, d: p256.x }],
    ['a private part that is empty', { ...good, d: '' }],
    ['another curve', { ...p256, crv: 'P-384' }],
    ['the curve of key agreement', { ...good, crv: 'X25519' }],
    ['RSA', { kty: 'RSA', n: p256.x, e: 'AQAB' }],
    ['a secret', { kty: 'oct', k: p256.x }],
    ['no y', { kty: 'EC', crv: 'P-256', x: p256.x }],
    ['a y where there is none', { ...good, y: p256.y }],
    ['a number', { ...p256, x: 1 }],
    ['31 bytes', { ...p256, x: p256.x.slice(0, 42) }],
    ['33 bytes', { ...p256, x: `AA${p256.x}` }],
    ['padding', { ...p256, x: `${p256.x}=` }],
    ['a line behind it', { ...p256, x: `${p256.x}\n` }],
    ['the other alphabet', { ...good, x: good.x.replace('_', '/') }],
    ['a spare bit of x', { ...p256, x: p256.x.replace(/4$/, '5') }],
    ['a spare bit of y', { ...p256, y: p256.y.replace(/M$/, 'N') }],
    ['a spare bit of Ed25519', edwards(good.x.replace(/o$/, 'p'))],
    ['the zero of the curve: anybody signs under it', edwards(point(1n))],
    ['the zero with a sign', edwards(point(1n, 1))],
    ['the point of order 2', edwards(point(field - 1n))],
    ['a point of order 4', edwards(point(0n))],
    ['the other point of order 4', edwards(point(0n, 1))],
    ['a point of order 8', edwards(point(order8))],
    ['its negative', edwards(point(order8, 1))],
    ['the other points of order 8', edwards(point(field - order8))],
    ['the zero beyond the field', edwards(point(field + 1n))],
    ['a point beyond the field', edwards(point(field + 3n))],
  ]
  for (const [what, key] of rows) t.equal(parseNodeKey(key), undefined, what)
})
